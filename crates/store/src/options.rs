//! What a store is opened with.

use std::path::PathBuf;
use std::time::Duration;

/// Where the store is and how large it may become.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory, created if it does not exist. It must be on one file system and belong to the store alone.
    pub directory: PathBuf,
    /// Maximum size of all files in bytes.
    pub size: u64,
    /// Threads for reads that the page cache cannot answer.
    pub read_threads: usize,
    /// Threads for writing what Incus sends.
    pub write_threads: usize,
    /// How long no fill starts after the disk has failed.
    pub retry: Duration,
    /// How long it takes at least until all images have been displaced by others, and those by others again.
    pub turnover: Duration,
}

impl Options {
    /// Options with four threads for reading, two for writing, and 30 seconds between failures of the disk, and a
    /// turnover in an hour.
    pub fn new(directory: impl Into<PathBuf>, size: u64) -> Self {
        Self {
            directory: directory.into(),
            size,
            read_threads: 4,
            write_threads: 2,
            retry: Duration::from_secs(30),
            turnover: Duration::from_secs(3600),
        }
    }
}
