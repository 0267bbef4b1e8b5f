//! What the store counts. Monitoring reads a [`Counts`] of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A monotonic counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why an image was removed from the store without having been asked to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DropReason {
    /// The entry in the index cannot be read.
    BadEntry,
    /// A file is missing.
    Missing,
    /// A file has another size than the index says.
    WrongSize,
    /// A file has another content than its name says.
    WrongHash,
    /// A file cannot be opened or read.
    Unreadable,
}

impl DropReason {
    /// All reasons, in the order of [`Counts::dropped`].
    pub const ALL: [Self; 5] = [
        Self::BadEntry,
        Self::Missing,
        Self::WrongSize,
        Self::WrongHash,
        Self::Unreadable,
    ];

    /// Name for a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadEntry => "bad_entry",
            Self::Missing => "missing",
            Self::WrongSize => "wrong_size",
            Self::WrongHash => "wrong_hash",
            Self::Unreadable => "unreadable",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) followed: Counter,
    pub(crate) filled: Counter,
    pub(crate) bad_exports: Counter,
    pub(crate) abandoned_fills: Counter,
    pub(crate) disk_errors: Counter,
    pub(crate) evicted: Counter,
    pub(crate) removed: Counter,
    pub(crate) no_room: Counter,
    pub(crate) failed_deletions: Counter,
    dropped: [Counter; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn dropped(&self, reason: DropReason, images: u64) {
        self.dropped[reason as usize].add(images);
    }

    pub(crate) fn dropped_values(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        DropReason::ALL.map(|reason| (reason, self.dropped[reason as usize].value()))
    }
}

/// The values of all counters since the store was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    /// Claims that found the image in the store.
    pub hits: u64,
    /// Claims that started a fill.
    pub misses: u64,
    /// Claims that joined a fill.
    pub followed: u64,
    /// Fills that completed.
    pub filled: u64,
    /// Fills that failed because of what Incus sent.
    pub bad_exports: u64,
    /// Fills that were dropped before their end.
    pub abandoned_fills: u64,
    /// Fills that failed because of the disk.
    pub disk_errors: u64,
    /// Images removed to make room.
    pub evicted: u64,
    /// Images removed because they are no longer published.
    pub removed: u64,
    /// Claims for which no room could be made.
    pub no_room: u64,
    /// Files that could not be deleted.
    pub failed_deletions: u64,
    /// Images removed because of trouble with their files.
    pub dropped: [(DropReason, u64); DropReason::ALL.len()],
    /// Reads that the page cache answered.
    pub cached_reads: u64,
    /// Reads on the store's threads.
    pub blocking_reads: u64,
}
