//! What everything that reads or fills the store shares: the directory, the threads, the counters and the index.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::counters::{Counters, DropReason};
use crate::digest::Digest;
use crate::directory::{Directory, OpenError};
use crate::index::Index;
use crate::options::Options;
use crate::read::FileReader;
use crate::space::{Blob, Usage};
use crate::threads::Threads;

/// The store, as its images and fills share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) directory: Directory,
    pub(crate) reader: FileReader,
    pub(crate) writes: Threads,
    /// One thread for everything that gives files their names or takes them away, so that the order is that of the index.
    pub(crate) chores: Threads,
    pub(crate) counters: Counters,
    pub(crate) usage: Arc<Usage>,
    /// Maximum of `usage`.
    pub(crate) limit: u64,
    index: Mutex<Index>,
    retry: Duration,
    pub(crate) turnover: Duration,
}

impl Shared {
    /// Opens the directory, starts the threads, and deletes what is beyond the size.
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let (directory, mut recovered) = Directory::open(&options.directory)?;
        let threads = |source| OpenError::Io {
            path: options.directory.clone(),
            source,
        };
        let shared = Self {
            directory,
            reader: FileReader::start(options.read_threads.max(1)).map_err(threads)?,
            writes: Threads::start("store-write", options.write_threads.max(1)).map_err(threads)?,
            chores: Threads::start("store-chores", 1).map_err(threads)?,
            counters: Counters::default(),
            index: Mutex::default(),
            usage: Arc::default(),
            limit: options.size,
            retry: options.retry,
            turnover: options.turnover,
        };
        recovered.entries.sort_by_key(|(_, last_used)| *last_used);
        for (entry, _) in recovered.entries {
            shared.lock().insert(entry, &shared.usage);
        }
        for reason in recovered.dropped {
            shared.counters.dropped(reason, 1);
        }
        let excess = shared.usage.bytes().saturating_sub(shared.limit);
        let evicted = shared.lock().evict(excess).unwrap_or_default();
        shared.counters.evicted.add(evicted as u64);
        shared.delete();
        Ok(shared)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing that is done with the lock can panic halfway.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops a damaged file with all images that have it.
    pub(crate) fn drop_damaged(self: &Arc<Self>, blob: &Arc<Blob>, reason: DropReason) {
        let mut index = self.lock();
        let images = index.remove_damaged(blob);
        self.counters.dropped(reason, images as u64);
        let (shared, digest) = (Arc::clone(self), blob.digest);
        drop(self.chores.start_job(move || {
            shared.delete();
            shared.delete_unknown(&digest);
        }));
    }

    /// After the disk has failed: most likely it fails again, and each time it costs the followers their transfer. A disk that is
    /// full before the store is gets room for what did not fit.
    pub(crate) fn suspend_fills(self: &Arc<Self>, kind: io::ErrorKind, bytes: u64) {
        let mut index = self.lock();
        index.suspended_until = Some(Instant::now() + self.retry);
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let victims = index.evict(bytes).unwrap_or_default();
            self.counters.evicted.add(victims as u64);
            drop(self.delete_later());
        }
    }

    /// Starts deleting what the index has removed. Called with the index locked, so that a later fill of the same image is entered
    /// after that.
    pub(crate) fn delete_later(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let shared = Arc::clone(self);
        self.chores.start_job(move || shared.delete())
    }

    /// Deletes what the index has removed.
    fn delete(&self) {
        let (entries, files) = self.lock().take_garbage();
        for fingerprint in entries {
            self.count_failure(self.directory.delete_entry(&fingerprint));
        }
        for blob in files {
            self.count_failure(self.directory.delete_file(&blob.digest));
        }
    }

    /// Deletes a file unless the index has it.
    pub(crate) fn delete_unknown(&self, digest: &Digest) {
        if !self.lock().has_file(digest) {
            self.count_failure(self.directory.delete_file(digest));
        }
    }

    fn count_failure(&self, result: io::Result<()>) {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.counters.failed_deletions.add(1),
            _ => {}
        }
    }
}
