//! The responses of services.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};

use crate::upstream::{self, UpstreamBody};

/// Maximum size of a body frame, in bytes.
const PIECE: usize = 64 << 10;

/// A response to a client.
pub type Reply = Response<ReplyBody>;

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// A complete body in memory.
    Whole(Option<Bytes>),
    /// A body that is generated while it is sent.
    Parts(Box<dyn Iterator<Item = Bytes>>),
    /// A body streamed from elsewhere. If polling fails, the client's connection or stream is reset.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = upstream::Error>>>),
    /// A body streamed from an upstream server. If that aborts it, polling fails, and the client's connection or stream is reset.
    Upstream(Box<UpstreamBody>),
}

impl From<Vec<u8>> for ReplyBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

/// Removes the body for a HEAD request and keeps its length (RFC 9110 §9.3.2). hyper does that for HTTP/1.1 only.
pub fn leave_out_body(reply: &mut Reply) {
    if let ReplyBody::Whole(Some(bytes)) = reply.body() {
        let length = HeaderValue::from(bytes.len());
        reply.headers_mut().insert(CONTENT_LENGTH, length);
        *reply.body_mut() = ReplyBody::Whole(None);
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = upstream::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let Some(mut piece) = bytes.take() else {
                    return Poll::Ready(None);
                };
                // The request record is complete once it sees the last byte. Splitting the body keeps it from seeing
                // that byte too early.
                if piece.len() > PIECE {
                    *bytes = Some(piece.split_off(PIECE));
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Parts(parts) => Poll::Ready(parts.next().map(|part| Ok(Frame::data(part)))),
            Self::Streamed(body) => body.as_mut().poll_frame(cx),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Parts(_) => false,
            Self::Streamed(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Parts(_) => SizeHint::default(),
            Self::Streamed(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}
