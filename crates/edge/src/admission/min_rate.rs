//! The minimum rate at which a client must read a response.
//!
//! A client starts with a credit of time (`limits.send_grace`). Every byte that it reads earns the time that one byte takes
//! at the minimum rate. Credit is spent while the gateway waits for the client, not while it waits for the upstream server. A
//! client without credit has been slower than the minimum rate for at least the grace period.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Rate tracker of one response.
#[derive(Debug)]
pub struct MinRate {
    /// Minimum rate, in bytes per second.
    rate: u32,
    /// Maximum credit.
    credit: Duration,
    turn: Cell<Turn>,
}

/// The side that the gateway waits for.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client; its credit ends at this time.
    Client(Instant),
    /// The upstream server; the client has this much credit left.
    Upstream(Duration),
    /// Neither: the response has ended.
    Over,
}

impl MinRate {
    /// Creates a tracker for a response of which no byte has been sent. `rate` is in bytes per second.
    pub fn new(rate: u32, credit: Duration) -> Self {
        Self {
            rate: rate.max(1),
            credit,
            turn: Cell::new(Turn::Upstream(credit)),
        }
    }

    /// Records that the client has read what it was sent and the connection asks for more.
    pub fn ask(&self, now: Instant) {
        if let Turn::Client(due) = self.turn.get() {
            self.turn.set(Turn::Upstream(due.saturating_duration_since(now)));
        }
    }

    /// Records that `bytes` bytes were handed over for sending.
    pub fn give(&self, bytes: usize, now: Instant) {
        let Turn::Upstream(credit) = self.turn.get() else {
            return;
        };
        let earned = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / self.rate;
        let credit = (credit + earned).min(self.credit.max(earned));
        self.turn.set(Turn::Client(now + credit));
    }

    /// Records that nothing more will be sent.
    pub fn end(&self) {
        self.turn.set(Turn::Over);
    }

    /// Returns the time at which the client's credit ends if nothing happens until then.
    pub fn due(&self) -> Option<Instant> {
        match self.turn.get() {
            Turn::Client(due) => Some(due),
            Turn::Upstream(_) | Turn::Over => None,
        }
    }
}

/// Timer whose deadline changes frequently, mostly to a later time. Such a change does not touch the runtime's timer.
#[derive(Debug, Default)]
pub struct ResettableSleep(Option<Pin<Box<Sleep>>>);

impl ResettableSleep {
    /// Completes when the deadline has passed. Never completes without a deadline.
    pub fn poll(&mut self, time: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(time) = time else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(time)));
        loop {
            if sleep.is_elapsed() || time < sleep.deadline() {
                sleep.as_mut().reset(time);
            }
            ready!(sleep.as_mut().poll(cx));
            if time <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1000;
    const CREDIT: Duration = Duration::from_secs(30);

    /// Returns after how many seconds a client that reads `bytes` every `pause` is aborted; `None` if it lasts for an hour.
    fn aborted_after(bytes: usize, pause: Duration) -> Option<u64> {
        let (pace, begun) = (MinRate::new(RATE, CREDIT), Instant::now());
        let mut now = begun;
        while now < begun + Duration::from_hours(1) {
            pace.give(bytes, now);
            now += pause;
            if let Some(due) = pace.due().filter(|due| *due < now) {
                return Some((due - begun).as_secs());
            }
            pace.ask(now);
        }
        None
    }

    #[test]
    fn only_clients_below_the_minimum_rate_are_aborted() {
        let seconds = Duration::from_secs;
        assert_eq!(aborted_after(10_000, seconds(10)), None);
        assert_eq!(aborted_after(1_000, seconds(1)), None);
        // A piece that takes longer than the credit at the minimum rate may take that long.
        assert_eq!(aborted_after(100_000, seconds(100)), None);
        assert_eq!(aborted_after(100_000, seconds(101)), Some(100));
        assert_eq!(aborted_after(1_000, seconds(3_600)), Some(30));
        // At half the rate, the client earns back half of the time.
        assert_eq!(aborted_after(1_000, seconds(2)), Some(59));
        assert_eq!(aborted_after(1, seconds(1)), Some(30));
    }

    #[test]
    fn waiting_for_incus_does_not_count_against_the_client() {
        let (pace, begun) = (MinRate::new(RATE, CREDIT), Instant::now());
        pace.give(1, begun);
        let asked = begun + Duration::from_secs(10);
        pace.ask(asked);
        assert_eq!(pace.due(), None);
        let given = asked + Duration::from_hours(1);
        pace.give(1_000, given);
        assert_eq!(pace.due(), Some(given + Duration::from_millis(21_000)));
        pace.end();
        assert_eq!(pace.due(), None);
    }
}
