//! The record of one request and its response, from the request header to the end of the response.
//!
//! All parts of a worker that handle the request share its record. The request ends when the last of them drops the
//! record: exactly once, whether it completes, is aborted or rejected, or becomes a tunnel.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};

use super::redact::{bounded, kept_of_stranger};
use crate::abort_reason::AbortReason;
use crate::admission::Rejection;
use crate::connection::context::ConnectionContext;
use crate::connection::download_permit::DownloadPermit;
use crate::listener_id::Policy;
use crate::metrics::counts::{EndpointId, ListenerMetrics};
use crate::response::{Reply, ReplyBody};
use crate::upstream;

/// The record of one request and its response. Dropping it logs and counts the request.
#[derive(Debug)]
pub struct RequestRecord {
    client: Rc<ConnectionContext>,
    method: Method,
    uri: Uri,
    version: Version,
    begun: Instant,
    user: OnceCell<Arc<str>>,
    endpoint: Cell<EndpointId>,
    status: Cell<Option<StatusCode>>,
    operation: OnceCell<Box<str>>,
    received: Cell<u64>,
    sent: Cell<u64>,
    first_byte: Cell<Option<Duration>>,
    upstream: Cell<Option<Duration>>,
    end: Cell<RecordState>,
    /// Permit of a download.
    download: OnceCell<DownloadPermit>,
}

/// How far the request got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RecordState {
    /// Not finished. If the record is dropped in this state, the request was aborted.
    Open,
    Whole,
    Aborted(AbortReason),
}

impl RequestRecord {
    /// Creates the record when the request header has arrived.
    pub fn begin<B>(client: Rc<ConnectionContext>, request: &Request<B>) -> Rc<Self> {
        let policy = client.listener.policy();
        Rc::new(Self {
            client,
            method: request.method().clone(),
            uri: match policy {
                Policy::Authenticated => bounded(request.uri()),
                Policy::Open => kept_of_stranger(request.uri()),
            },
            version: request.version(),
            begun: Instant::now(),
            user: OnceCell::new(),
            endpoint: Cell::new(EndpointId::REFUSED),
            status: Cell::new(None),
            operation: OnceCell::new(),
            received: Cell::new(0),
            sent: Cell::new(0),
            first_byte: Cell::new(None),
            upstream: Cell::new(None),
            end: Cell::new(RecordState::Open),
            download: OnceCell::new(),
        })
    }

    /// The connection that the request came over.
    pub fn client(&self) -> &Rc<ConnectionContext> {
        &self.client
    }

    /// Request method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Request target, reduced to what will be logged if it is long. It may contain secrets: do not log it without
    /// [`redact`](super::redact::redact).
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// HTTP version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Name of the client, once authenticated.
    pub fn user(&self) -> Option<&str> {
        self.user.get().map(|name| &**name)
    }

    /// Status of the response. `None` if the client disconnected before there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.status.get()
    }

    /// Bytes of the request body, or tunneled bytes from the client, received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes of the response body, or tunneled bytes to the client, handed to the connection so far.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Time since the request header arrived.
    pub fn duration(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Time until the response header was sent.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get()
    }

    /// Time that the upstream server took to send its response header, if the request was forwarded.
    pub fn upstream(&self) -> Option<Duration> {
        self.upstream.get()
    }

    /// Why the request was aborted. `None` if it completed.
    pub fn abort_reason(&self) -> Option<AbortReason> {
        match self.end.get() {
            RecordState::Aborted(reason) => Some(reason),
            RecordState::Open => Some(self.client.abort_reason()),
            RecordState::Whole => None,
        }
    }

    /// ID of the operation that the request started, which goes on when the response has ended.
    pub fn operation(&self) -> Option<&str> {
        self.operation.get().map(|id| &**id)
    }

    /// Records who the client is.
    pub fn set_user(&self, name: &Arc<str>) {
        // Authentication runs once per request.
        let _ = self.user.set(Arc::clone(name));
    }

    /// Records the endpoint, once the request is authorized.
    pub fn set_endpoint(&self, endpoint: impl Into<EndpointId>) {
        self.endpoint.set(endpoint.into());
    }

    /// Records the operation that the request started.
    pub fn set_operation(&self, id: &str) {
        // A request starts at most one operation.
        let _ = self.operation.set(id.into());
    }

    /// Acquires a download permit, which the record holds until it is dropped.
    ///
    /// # Errors
    ///
    /// Fails with [`Rejection::TooManyDownloads`] if there is none left.
    pub fn begin_download(&self) -> Result<(), Rejection> {
        let download = DownloadPermit::begin(&self.client)?;
        // A request starts at most one download.
        let _ = self.download.set(download);
        Ok(())
    }

    /// Records bytes from the client.
    pub fn receive(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.counts().received.add(bytes as u64);
    }

    /// Records bytes for the client.
    pub fn send(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.counts().sent.add(bytes as u64);
    }

    /// Records that the request completed.
    pub fn complete(&self) {
        if self.end.get() == RecordState::Open {
            self.end.set(RecordState::Whole);
        }
    }

    /// Records why the request was aborted. The first reason is kept.
    pub fn abort(&self, reason: AbortReason) {
        if self.end.get() == RecordState::Open {
            self.end.set(RecordState::Aborted(reason));
        }
    }

    fn counts(&self) -> &ListenerMetrics {
        self.client.counts()
    }

    /// Waits for the upstream server's response header, and records the time it took.
    pub async fn time_upstream<T>(&self, answer: impl Future<Output = T>) -> T {
        let asked = Instant::now();
        let answer = answer.await;
        self.upstream.set(Some(asked.elapsed()));
        answer
    }

    /// Records the response header, and attaches the record to the body.
    pub fn answer(self: Rc<Self>, reply: Reply) -> Response<MeteredBody> {
        self.status.set(Some(reply.status()));
        self.first_byte.set(Some(self.begun.elapsed()));
        // A tunnel only begins with its 101. A response to HEAD has no body.
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
        // Incus may have executed the request although the client did not wait for the response.
        if self.status.get().is_none() {
            self.log_audit();
        }
        self.log_access();
        self.counts()
            .count(self.endpoint.get(), self.status(), self.duration(), self.abort_reason());
    }
}

/// The body of a response, with the bytes read from it recorded.
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
                // If the length shows that this was the last frame, the body may not be polled again.
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
