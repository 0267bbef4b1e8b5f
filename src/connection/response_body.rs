//! An answer's body on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::admission::MinRate;
use crate::connection::timeouts::{ConnectionActivity, InFlightGuard};

/// The most that is handed over at once where it matters how it is taken; what is smaller as a whole fits into buffers of
/// HTTP/1.
const PIECE: usize = 64 << 10;

/// Keeps its connection from being idle, and tells how it is taken.
pub(super) struct PacedBody<B> {
    body: B,
    /// The rest of a frame that was too large.
    rest: Bytes,
    pace: Option<Rc<MinRate>>,
    _answering: InFlightGuard,
}

impl<B: Body> PacedBody<B> {
    /// With a pace, a client that does not keep it is let go. Over HTTP/2 it may have us wait before the first byte.
    pub(super) fn new(
        body: B,
        answering: InFlightGuard,
        activity: &ConnectionActivity,
        pace: Option<MinRate>,
        version: Version,
    ) -> Self {
        let may_wait = version == Version::HTTP_2 || body.size_hint().upper().is_none_or(|size| size > PIECE as u64);
        let pace = pace.filter(|_| may_wait && !body.is_end_stream()).map(Rc::new);
        if let Some(pace) = &pace {
            activity.watch(Rc::clone(pace));
        }
        Self {
            body,
            rest: Bytes::new(),
            pace,
            _answering: answering,
        }
    }
}

impl<B> Drop for PacedBody<B> {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace {
            pace.end();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(pace) = &this.pace else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        let now = Instant::now();
        pace.ask(now);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        pace.give(piece.len(), now);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        match hint.exact() {
            Some(size) => SizeHint::with_exact(size + self.rest.len() as u64),
            None => hint,
        }
    }
}
