//! The body of a response to a client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::admission::MinRate;
use crate::connection::timeouts::{ConnectionActivity, InFlightGuard};

/// Maximum size of a chunk whose sending rate is measured, in bytes. A smaller body fits into the buffers of HTTP/1.
const PIECE: usize = 64 << 10;

/// Body that keeps its connection from being idle and measures how fast the client reads it.
pub(super) struct PacedBody<B> {
    body: B,
    /// The rest of a frame larger than [`PIECE`].
    rest: Bytes,
    pace: Option<Rc<MinRate>>,
    _answering: InFlightGuard,
}

impl<B: Body> PacedBody<B> {
    /// Wraps `body`. With a `pace`, a client that reads too slowly is aborted. Over HTTP/2, the client may block even the
    /// first byte.
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
