//! Fairness: a worker answers many, so that nobody moves more than this at a time, however fast it could go on.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

/// What a body hands on, in bytes, before other tasks have their turn.
const TURN: usize = 128 << 10;

/// How much of its turn a body has used.
#[derive(Debug, Default)]
pub struct YieldBudget(usize);

impl YieldBudget {
    /// Polls a body, unless others are to go first.
    pub fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        body: impl FnOnce(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        if self.0 >= TURN {
            self.0 = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = body(cx);
        if polled.is_pending() {
            self.0 = 0;
        }
        let frame = ready!(polled);
        if let Some(Ok(frame)) = &frame {
            self.0 += frame.data_ref().map_or(0, Bytes::len);
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn others_go_first_after_a_turn() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut turn = YieldBudget::default();
        let mut take_turn = |size| {
            let frame = Frame::data(Bytes::from(vec![0; size]));
            turn.poll(&mut cx, |_| Poll::Ready(Some(Ok::<_, ()>(frame)))).is_ready()
        };
        assert!(take_turn(TURN - 1));
        assert!(take_turn(1));
        assert!(!take_turn(1), "the turn is over");
        assert!(take_turn(1), "the next one has begun");
    }
}
