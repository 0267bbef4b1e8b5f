//! Situations that clients can prolong at will. The log has one line when one begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// An episode ends after this many seconds without another case.
const QUIET: u64 = 60;

/// Tells the first case of a situation from the ones that follow it.
#[derive(Debug)]
pub struct Episode {
    since: Instant,
    /// Time of the last case, in seconds after `since` plus [`QUIET`]; 0 before the first one.
    last: AtomicU64,
}

impl Default for Episode {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Episode {
    /// Notes a case. Returns `true` for the first one of an episode, which the caller should log.
    pub fn begins(&self) -> bool {
        // Starts at `QUIET`, so that the first case is not taken for part of an earlier episode.
        let now = self.since.elapsed().as_secs() + QUIET;
        self.last.swap(now, Ordering::Relaxed) + QUIET <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pause_of_a_minute_begins_another_episode() {
        let episode = Episode::default();
        assert!(episode.begins() && !episode.begins());
        episode.last.fetch_sub(QUIET - 1, Ordering::Relaxed);
        assert!(!episode.begins());
        episode.last.fetch_sub(QUIET, Ordering::Relaxed);
        assert!(episode.begins());
    }
}
