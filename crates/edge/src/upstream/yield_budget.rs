//! Fairness between the tasks of a worker: a body yields after a limited number of bytes, even if more are available.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

/// Number of bytes that a body transfers before other tasks run.
const TURN: usize = 128 << 10;

/// The used part of a body's turn, in bytes.
#[derive(Debug, Default)]
pub struct YieldBudget(usize);

impl YieldBudget {
    /// Polls a body, or yields if its turn is over.
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
    fn a_used_up_budget_yields_to_other_tasks() {
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
