//! How often something was rejected, per reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::reject_reason::RejectReason;

/// An episode ends after this many seconds without another case of its reason. The log has one line per episode.
const QUIET: u64 = 60;

/// Counters of all reasons.
#[derive(Debug)]
pub(super) struct RejectCounters {
    cases: [RejectCounter; RejectReason::ALL.len()],
    since: Instant,
}

/// Counter of one [`RejectReason`].
#[derive(Debug, Default)]
struct RejectCounter {
    count: AtomicU64,
    /// Time of the last case, in seconds after `since` plus [`QUIET`]; 0 before the first one.
    last: AtomicU64,
}

impl Default for RejectCounters {
    fn default() -> Self {
        Self {
            cases: Default::default(),
            since: Instant::now(),
        }
    }
}

impl RejectCounters {
    /// Counts a case. Returns `true` for the first one of an episode, which the caller should log.
    pub(super) fn count(&self, reason: RejectReason) -> bool {
        let cases = &self.cases[reason as usize];
        cases.count.fetch_add(1, Ordering::Relaxed);
        // Starts at `QUIET`, so that the first case is not taken for part of an earlier episode.
        let now = self.since.elapsed().as_secs() + QUIET;
        cases.last.swap(now, Ordering::Relaxed) + QUIET <= now
    }

    /// Returns the number of cases.
    pub(super) fn cases(&self, reason: RejectReason) -> u64 {
        self.cases[reason as usize].count.load(Ordering::Relaxed)
    }
}
