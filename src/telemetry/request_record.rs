//! One request and its answer, from the request's head to the answer's end: what is known of it when it is over.
//!
//! Everybody who has a part in it shares it; nothing of it leaves its worker. It is over when the last of them lets go of
//! it, which happens once, however it ends: whole, cut, refused, or as a tunnel.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};

use super::redact::{bounded, kept_of_stranger};
use crate::abort_reason::AbortReason;
use crate::connection::context::ConnectionContext;
use crate::connection::download_permit::DownloadPermit;
use crate::metrics::counts::ListenerMetrics;
use crate::metrics::endpoint::Endpoint;
use crate::port::Port;
use crate::reply::{HttpError, Reply, ReplyBody};
use crate::upstream;

/// The length of an operation's id.
const UUID: usize = 36;

/// See the module.
#[derive(Debug)]
pub struct RequestRecord {
    client: Rc<ConnectionContext>,
    method: Method,
    uri: Uri,
    version: Version,
    begun: Instant,
    admin: OnceCell<Arc<str>>,
    endpoint: Cell<Endpoint>,
    status: Cell<Option<StatusCode>>,
    location: OnceCell<HeaderValue>,
    received: Cell<u64>,
    sent: Cell<u64>,
    first_byte: Cell<Option<Duration>>,
    upstream: Cell<Option<Duration>>,
    end: Cell<RecordState>,
    /// What it takes, if it is a download.
    download: OnceCell<DownloadPermit>,
}

/// How far it got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RecordState {
    /// Something is still to come; if nobody is left to bring it, it was cut.
    Open,
    Whole,
    Aborted(AbortReason),
}

impl RequestRecord {
    /// Begins with the head of a request.
    pub fn begin<B>(client: Rc<ConnectionContext>, request: &Request<B>) -> Rc<Self> {
        let port = client.port;
        Rc::new(Self {
            client,
            method: request.method().clone(),
            uri: match port {
                Port::Admin => bounded(request.uri()),
                Port::Public => kept_of_stranger(request.uri()),
            },
            version: request.version(),
            begun: Instant::now(),
            admin: OnceCell::new(),
            endpoint: Cell::new(Endpoint::Refused),
            status: Cell::new(None),
            location: OnceCell::new(),
            received: Cell::new(0),
            sent: Cell::new(0),
            first_byte: Cell::new(None),
            upstream: Cell::new(None),
            end: Cell::new(RecordState::Open),
            download: OnceCell::new(),
        })
    }

    /// Whose it is, and over which connection.
    pub fn client(&self) -> &Rc<ConnectionContext> {
        &self.client
    }

    /// The method asked for.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The target asked for, or what of a long one is told, secrets and all: nothing that is told may hold it as it is.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The version of HTTP.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The name of the admin, once they were known to be one.
    pub fn admin(&self) -> Option<&str> {
        self.admin.get().map(|name| &**name)
    }

    /// What it was for.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.get()
    }

    /// The status of the answer. `None` where the client went before there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.status.get()
    }

    /// How many bytes of the request's body, or from the client through the tunnel, have come.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// How many bytes of the answer's body, or through the tunnel to the client, were handed to the connection.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The time since the head of the request was there.
    pub fn duration(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The time until the head of the answer left.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get()
    }

    /// The time until Incus had sent the head of its answer, where it was asked for this request.
    pub fn upstream(&self) -> Option<Duration> {
        self.upstream.get()
    }

    /// Who has cut it, where it did not end whole.
    pub fn cut(&self) -> Option<AbortReason> {
        match self.end.get() {
            RecordState::Aborted(cut) => Some(cut),
            RecordState::Open => Some(self.client.cut()),
            RecordState::Whole => None,
        }
    }

    /// The id of the operation that Incus has begun for it.
    pub fn operation(&self) -> Option<&str> {
        let path = self.location.get()?.to_str().ok()?;
        let id = path.strip_prefix("/1.0/operations/")?;
        let is_id = id.len() == UUID && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        is_id.then_some(id)
    }

    /// Notes who it was.
    pub fn set_admin(&self, name: &Arc<str>) {
        // Judged once for each request.
        let _ = self.admin.set(Arc::clone(name));
    }

    /// Notes what it was for, once it may ask that.
    pub fn set_endpoint(&self, endpoint: Endpoint) {
        self.endpoint.set(endpoint);
    }

    /// Has it take what a download takes, until it is over.
    pub fn begin_download(&self) -> Result<(), HttpError> {
        let download = DownloadPermit::begin(&self.client).ok_or(HttpError::TooManyDownloads)?;
        // Begun once for each.
        let _ = self.download.set(download);
        Ok(())
    }

    /// Notes bytes from the client.
    pub fn receive(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.counts().received.add(bytes as u64);
    }

    /// Notes bytes for the client.
    pub fn send(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.counts().sent.add(bytes as u64);
    }

    /// Notes that all is done.
    pub fn complete(&self) {
        if self.end.get() == RecordState::Open {
            self.end.set(RecordState::Whole);
        }
    }

    /// Notes who has ended it too early. The first word on that counts.
    pub fn abort(&self, cut: AbortReason) {
        if self.end.get() == RecordState::Open {
            self.end.set(RecordState::Aborted(cut));
        }
    }

    fn counts(&self) -> &ListenerMetrics {
        self.client.worker.counts().ports.of(self.client.port)
    }

    /// Waits for the head of Incus's answer, and notes how long that took.
    pub async fn time_upstream<T>(&self, answer: impl Future<Output = T>) -> T {
        let asked = Instant::now();
        let answer = answer.await;
        self.upstream.set(Some(asked.elapsed()));
        answer
    }

    /// Notes the head of the answer, and goes with its body.
    pub fn answer(self: Rc<Self>, reply: Reply) -> Response<MeteredBody> {
        self.status.set(Some(reply.status()));
        self.first_byte.set(Some(self.begun.elapsed()));
        if reply.status() == StatusCode::ACCEPTED
            && let Some(location) = reply.headers().get(LOCATION)
        {
            let _ = self.location.set(location.clone());
        }
        // A tunnel is not over with its 101, and no body follows an answer to HEAD.
        let is_over = reply.body().is_end_stream() || self.method == Method::HEAD;
        if is_over && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.complete();
        }
        self.log_audit();
        reply.map(|body| MeteredBody { body, record: self })
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        // Whether Incus has done it though nobody waited for the answer, nobody knows.
        if self.status.get().is_none() {
            self.log_audit();
        }
        self.log_access();
        self.counts()
            .count(self.endpoint(), self.status(), self.duration(), self.cut());
    }
}

/// The body of an answer, which notes what is read of it.
pub struct MeteredBody {
    body: ReplyBody,
    record: Rc<RequestRecord>,
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = upstream::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, record } = self.get_mut();
        let polled = Pin::new(&mut *body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                record.send(frame.data_ref().map_or(0, Buf::remaining));
                // Who knows from the length that this was the last frame may never ask again.
                if body.is_end_stream() {
                    record.complete();
                }
            }
            Poll::Ready(Some(Err(_))) => record.abort(AbortReason::Incus),
            Poll::Ready(None) => record.complete(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
