//! How fast images may displace each other. Without a limit, clients that take turns with more images than fit would make the
//! gateway fetch and write all of them, again and again, at the full speed of Incus and of the disk.

use std::time::{Duration, Instant};

/// A budget for displaced bytes: as many as the store may have at once, and as many again in each period.
#[derive(Debug, Default)]
pub(crate) struct Turnover {
    /// When all that was displaced so far has been made up for.
    settled_at: Option<Instant>,
}

impl Turnover {
    /// Takes `bytes` from the budget of a store of `limit` bytes. Returns what is left, or `None` if that is too little.
    pub(crate) fn after(&self, bytes: u64, limit: u64, period: Duration, now: Instant) -> Option<Self> {
        if bytes == 0 {
            return Some(Self {
                settled_at: self.settled_at,
            });
        }
        let share = u128::from(bytes) * period.as_nanos() / u128::from(limit.max(1));
        let cost = Duration::from_nanos(u64::try_from(share).ok()?);
        let settled_at = self.settled_at.map_or(now, |then| then.max(now)).checked_add(cost)?;
        (settled_at.duration_since(now) <= period).then_some(Self {
            settled_at: Some(settled_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn one_whole_store_at_once_and_another_one_per_period() {
        let start = Instant::now();
        let mut budget = Turnover::default();
        let mut displaced = |bytes, after| {
            let left = budget.after(bytes, 1000, HOUR, start + after);
            let is_permitted = left.is_some();
            budget = left.unwrap_or(Turnover {
                settled_at: budget.settled_at,
            });
            is_permitted
        };
        assert!(displaced(600, Duration::ZERO) && displaced(400, Duration::ZERO));
        assert!(displaced(0, Duration::ZERO), "nothing costs nothing");
        assert!(!displaced(1, Duration::ZERO));
        assert!(!displaced(501, HOUR / 2) && displaced(500, HOUR / 2));
        assert!(!displaced(1, HOUR / 2));
        assert!(
            displaced(1000, HOUR * 9) && !displaced(1, HOUR * 9),
            "no more than one is saved up"
        );
        assert!(!displaced(u64::MAX, HOUR * 20));
    }
}
