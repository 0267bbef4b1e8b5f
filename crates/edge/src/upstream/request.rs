//! Requests to Incus.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame, SizeHint};

/// The body of a request to Incus.
pub enum RequestBody {
    /// No body.
    Empty,
    /// Of a client, streamed.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error>>>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// Returns whether the request can be sent twice: it is idempotent (RFC 9110 §9.2.2) and has no body that may be partly
/// consumed.
pub(super) fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream() && *request.method() != Method::CONNECT
}

/// Clones a request that has no body.
pub(super) fn clone_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut head = Request::new(RequestBody::Empty);
    head.method_mut().clone_from(request.method());
    head.uri_mut().clone_from(request.uri());
    head.headers_mut().clone_from(request.headers());
    head
}
