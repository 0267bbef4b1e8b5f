//! Responses from Incus.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Connection;
use super::error::Error;
use super::pool::Pool;
use super::yield_budget::YieldBudget;

/// The body of Incus's answer, together with the connection it comes over.
///
/// It lets others have their turn after each [`YieldBudget`].
///
/// Read to its end, it gives the connection back to the pool. Dropped before, it closes the connection: nobody waits for
/// the rest. When Incus breaks off it fails, so that no reader can take what came for the whole.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    /// `None` once it has been returned to the pool.
    connection: Option<Connection>,
    pool: Rc<Pool>,
    turn: YieldBudget,
}

impl UpstreamBody {
    pub(super) async fn new(incoming: Incoming, connection: Connection, pool: Rc<Pool>) -> Self {
        let mut body = Self {
            incoming,
            connection: Some(connection),
            pool,
            turn: YieldBudget::default(),
        };
        if body.is_end_stream() {
            // Empty bodies are not polled.
            poll_fn(|cx| {
                body.give_back(cx);
                Poll::Ready(())
            })
            .await;
        }
        body
    }

    pub(super) async fn collect(mut self, limit: usize) -> Result<Bytes, Error> {
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
        let polled = this.turn.poll(cx, |cx| {
            if let Some(connection) = &mut this.connection {
                connection.drive(cx);
            }
            Pin::new(&mut this.incoming).poll_frame(cx)
        });
        let frame = ready!(polled);
        // The reader may know from the length that this was the last frame, and not poll again.
        let is_over = frame
            .as_ref()
            .is_none_or(|frame| frame.is_ok() && this.incoming.is_end_stream());
        if is_over {
            this.give_back(cx);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Error::BrokenOff);
            frame.inspect_err(|error| this.pool.counts.failed(error))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
