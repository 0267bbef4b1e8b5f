//! How often something was rejected, per reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::reject_reason::RejectReason;
use crate::telemetry::episode::Episode;

/// Counters of all reasons.
#[derive(Debug, Default)]
pub(super) struct RejectCounters {
    cases: [RejectCounter; RejectReason::ALL.len()],
}

/// Counter of one [`RejectReason`].
#[derive(Debug, Default)]
struct RejectCounter {
    count: AtomicU64,
    episode: Episode,
}

impl RejectCounters {
    /// Counts a case. Returns `true` for the first one of an episode, which the caller should log.
    pub(super) fn count(&self, reason: RejectReason) -> bool {
        let cases = &self.cases[reason as usize];
        cases.count.fetch_add(1, Ordering::Relaxed);
        cases.episode.begins()
    }

    /// Returns the number of cases.
    pub(super) fn cases(&self, reason: RejectReason) -> u64 {
        self.cases[reason as usize].count.load(Ordering::Relaxed)
    }
}
