//! Budget of a client or of a network: what it may use of each resource, which is earned over time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is limited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    Requests,
    CpuTime,
    Input,
}

impl Resource {
    /// Returns how many seconds' worth may be used in one burst after a period without use.
    const fn burst(self) -> Duration {
        match self {
            Self::Requests | Self::Input => Duration::from_secs(10),
            Self::CpuTime => Duration::from_secs(4),
        }
    }
}

/// A budget, shared by all workers. For each resource it is a single number, as in the generic cell rate algorithm (GCRA).
///
/// All times are relative to a moment that the caller chooses.
#[derive(Debug)]
pub(super) struct Budget {
    /// How many times as much as one client it may use.
    share: u32,
    /// When everything that was used will have been earned, in nanoseconds, by [`Resource`].
    earned_at: [AtomicU64; 3],
}

impl Budget {
    pub(super) fn new(share: u32) -> Self {
        Self {
            share,
            earned_at: Default::default(),
        }
    }

    /// Returns the time until more may be used, as much as one client earns in `next`.
    pub(super) fn wait(&self, resource: Resource, now: Duration, next: Duration) -> Duration {
        let earned_at = self.earned_at[resource as usize].load(Ordering::Relaxed);
        let wanted_at = earned_at.saturating_add(self.nanoseconds(next));
        Duration::from_nanos(wanted_at.saturating_sub(nanoseconds(now + resource.burst())))
    }

    /// Charges as much as one client earns in this time.
    pub(super) fn charge(&self, resource: Resource, now: Duration, earned_in: Duration) {
        let (now, cost) = (nanoseconds(now), self.nanoseconds(earned_in));
        let charge = |earned_at: u64| Some(earned_at.max(now).saturating_add(cost));
        // The closure never returns `None`.
        let _ = self.earned_at[resource as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
    }

    /// Returns whether a new budget would be equivalent.
    pub(super) fn is_full(&mut self, now: Duration) -> bool {
        let now = nanoseconds(now);
        self.earned_at.iter_mut().all(|earned_at| *earned_at.get_mut() <= now)
    }

    /// Returns the time in which it earns what one client earns in `time`.
    fn nanoseconds(&self, time: Duration) -> u64 {
        nanoseconds(time) / u64::from(self.share)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    // 64 bits of nanoseconds last for 584 years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
