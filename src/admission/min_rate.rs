//! How fast a client must take an answer.
//!
//! A client has some time's credit (`limits.send_grace`). Every byte that it takes earns it the time in which the slowest client that is let be
//! takes one; credit is used up while we wait for the client, and not while we wait for Incus. Who has none left has been
//! slower than that for so long, or longer.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// One answer's.
#[derive(Debug)]
pub struct MinRate {
    /// In bytes a second.
    rate: u32,
    /// The most that there is.
    credit: Duration,
    turn: Cell<Turn>,
}

/// For whom we wait.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client; no longer than this.
    Client(Instant),
    /// Incus; the client has this much credit left.
    Incus(Duration),
    /// Nobody any more.
    Over,
}

impl MinRate {
    /// Nothing has been given yet.
    pub fn new(rate: u32, credit: Duration) -> Self {
        Self {
            rate: rate.max(1),
            credit,
            turn: Cell::new(Turn::Incus(credit)),
        }
    }

    /// The client has taken what it was given, and more is asked for.
    pub fn ask(&self, now: Instant) {
        if let Turn::Client(due) = self.turn.get() {
            self.turn.set(Turn::Incus(due.saturating_duration_since(now)));
        }
    }

    /// The client was given this many bytes.
    pub fn give(&self, bytes: usize, now: Instant) {
        let Turn::Incus(credit) = self.turn.get() else { return };
        let earned = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / self.rate;
        let credit = (credit + earned).min(self.credit.max(earned));
        self.turn.set(Turn::Client(now + credit));
    }

    /// Nothing more will be given.
    pub fn end(&self) {
        self.turn.set(Turn::Over);
    }

    /// When the client's credit ends, if nothing happens until then.
    pub fn due(&self) -> Option<Instant> {
        match self.turn.get() {
            Turn::Client(due) => Some(due),
            Turn::Incus(_) | Turn::Over => None,
        }
    }
}

/// Goes off at a time that changes all the while, mostly to a later one: that costs nothing.
#[derive(Debug, Default)]
pub struct ResettableSleep(Option<Pin<Box<Sleep>>>);

impl ResettableSleep {
    /// Completes when this time is over. Without one it never does.
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

    /// After how many seconds a client is let go that takes `bytes` every `pause`; `None` if it is let be for an hour.
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
    fn who_is_slower_is_let_go_and_nobody_else() {
        let seconds = Duration::from_secs;
        assert_eq!(aborted_after(10_000, seconds(10)), None);
        assert_eq!(aborted_after(1_000, seconds(1)), None);
        // What takes longer than the credit at this rate may take so long.
        assert_eq!(aborted_after(100_000, seconds(100)), None);
        assert_eq!(aborted_after(100_000, seconds(101)), Some(100));
        assert_eq!(aborted_after(1_000, seconds(3_600)), Some(30));
        // Half as fast: half of the time is earned back.
        assert_eq!(aborted_after(1_000, seconds(2)), Some(59));
        assert_eq!(aborted_after(1, seconds(1)), Some(30));
    }

    #[test]
    fn incus_takes_its_time() {
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
