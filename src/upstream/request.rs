//! Requests to Incus.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::yield_budget::Turn;
use crate::telemetry::request_record::RequestRecord;

/// The body of a request to Incus.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// A client's body, forwarded as it arrives.
    Client(MeteredRequestBody),
}

/// Body of a client's request, see [`RequestBody::Client`].
#[derive(Debug)]
pub struct MeteredRequestBody {
    incoming: Incoming,
    turn: Turn,
    record: Rc<RequestRecord>,
}

impl RequestBody {
    /// Creates a body that forwards what a client sends.
    pub fn of_client(incoming: Incoming, record: &Rc<RequestRecord>) -> Self {
        Self::Client(MeteredRequestBody {
            incoming,
            turn: Turn::default(),
            record: Rc::clone(record),
        })
    }
}

impl MeteredRequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = self.turn.poll(cx, |cx| Pin::new(&mut self.incoming).poll_frame(cx));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.record.receive(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(Some(Err(_))) => self.record.abort(self.record.client().cut()),
            _ => {}
        }
        polled
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.incoming.size_hint(),
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
