//! The upstream client: the only code that talks to Incus.
//!
//! Each worker has one, with a pool of idle connections of its own. A connection is driven by the task that uses it, first
//! by [`Upstream::send`], then by the [`UpstreamBody`] it returns: no task stands between Incus's socket and the client's, so
//! a slow reader slows Incus down and nobody else.

mod connection;
mod error;
mod pool;
mod target;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use self::connection::Connection;
pub use self::connection::Tunnel;
pub use self::error::Error;
use self::error::SendError;
use self::pool::Pool;
pub use self::target::Target;

/// A client of Incus, for one worker.
#[derive(Debug)]
pub struct Upstream {
    target: Arc<Target>,
    pool: Rc<Pool>,
}

/// What Incus answered.
#[derive(Debug)]
pub enum Answer {
    /// A response whose body is still to come.
    Response(Response<Box<UpstreamBody>>),
    /// 101, and the stream that the connection has become.
    Upgraded(Response<()>, Box<Tunnel>),
}

impl Upstream {
    /// A client with an empty pool.
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            pool: Rc::new(Pool::default()),
        }
    }

    /// Sends a request and returns as soon as the head of the answer is there, however long that takes.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Answer, Error> {
        let answer = self.send_with_retry(request).await;
        self.target.note(answer.as_ref().err());
        answer
    }

    /// Fetches a JSON document of at most `limit` bytes.
    pub async fn fetch(&self, path: &'static str, limit: usize) -> Result<Bytes, Error> {
        let request = Request::get(path).header(HOST, self.host());
        // A path and a host that were a URL's make a request.
        let request = request.body(RequestBody::Empty).map_err(|_| Error::Unusable)?;
        match self.send(request).await? {
            Answer::Response(response) if response.status() == StatusCode::OK => {
                response.into_body().collect(limit).await
            }
            Answer::Response(response) => Err(Error::Status(path, response.status())),
            Answer::Upgraded(..) => Err(Error::Unusable),
        }
    }

    /// What our own requests say as `Host`.
    pub fn host(&self) -> HeaderValue {
        self.target.host_header.clone()
    }

    /// Closes connections that have been idle for so long that Incus may be about to.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    async fn send_with_retry(&self, mut request: Request<RequestBody>) -> Result<Answer, Error> {
        // A pooled connection may have gone stale in the very moment of its use. Sending twice is right only where that
        // does no more than sending once (RFC 9110 §9.2.2) and there is no body of which a part may be gone.
        while let Some(connection) = self.pool.take().await {
            let spare = is_repeatable(&request).then(|| clone_head(&request));
            match connection.send(request, &self.pool).await {
                Ok(answer) => return Ok(answer),
                Err(SendError { unsent, error }) => {
                    match unsent.filter(|unsent| unsent.method().is_idempotent()).or(spare) {
                        Some(again) => request = again,
                        None => return Err(error),
                    }
                }
            }
        }
        let connection = Connection::open(&self.target).await?;
        connection
            .send(request, &self.pool)
            .await
            .map_err(|failed| failed.error)
    }
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream() && *request.method() != Method::CONNECT
}

fn clone_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut head = Request::new(RequestBody::Empty);
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    head.headers_mut().clone_from(request.headers());
    head
}

/// The body of a request to Incus.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// A client's, handed on as it comes.
    Client(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}

/// The body of Incus's answer, together with the connection it comes over.
///
/// Read to its end, it gives the connection back to the pool. Dropped before, it closes the connection: nobody waits for
/// the rest. When Incus breaks off it fails, so that no reader can take what came for the whole.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    /// `None` once it has been given back.
    connection: Option<Connection>,
    pool: Rc<Pool>,
}

impl UpstreamBody {
    async fn new(incoming: Incoming, connection: Connection, pool: Rc<Pool>) -> Self {
        let mut body = Self {
            incoming,
            connection: Some(connection),
            pool,
        };
        if body.is_end_stream() {
            // Nobody will read it.
            poll_fn(|cx| {
                body.give_back(cx);
                Poll::Ready(())
            })
            .await;
        }
        body
    }

    async fn collect(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                if whole.len() + data.len() > limit {
                    return Err(Error::TooLarge(limit));
                }
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
    }

    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_reusable(cx)
        {
            self.pool.put(connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Some(connection) = &mut this.connection {
            connection.drive(cx);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(None) => {
                this.give_back(cx);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                // The reader may know from the length that this was the last frame, and never ask again.
                if this.incoming.is_end_stream() {
                    this.give_back(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Error::BrokenOff(error)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
