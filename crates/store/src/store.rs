//! The store itself.

mod inner;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::counters::{Counters, Counts};
use crate::digest::Digest;
use crate::directory::{Directory, OpenError};
use crate::entry::Entry;
use crate::fill::Fill;
use crate::fill::progress::Filling;
use crate::image::{Image, ReadError};
use crate::index::{Index, LookUp, Usage};
use crate::read::FileReader;
use crate::threads::Threads;

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
}

impl Options {
    /// Options with four threads for reading, two for writing, and 30 seconds between failures of the disk.
    pub fn new(directory: impl Into<PathBuf>, size: u64) -> Self {
        Self {
            directory: directory.into(),
            size,
            read_threads: 4,
            write_threads: 2,
            retry: Duration::from_secs(30),
        }
    }
}

/// Verified image files on disk. All clones are the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

/// The answer to [`Store::claim`].
#[derive(Debug)]
pub enum Claim {
    /// The store has the image.
    Stored(Image),
    /// Somebody else fills the store with it.
    Filling(Filling),
    /// The caller has to fill the store with it.
    Vacant(Fill),
}

/// Why the store neither has the image nor takes it.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It is larger than what can be freed.
    #[error("the store has no room for {needed} bytes: its limit is {limit}, and images in use are kept")]
    NoRoom {
        /// Size of the image in bytes.
        needed: u64,
        /// Maximum size of the store in bytes.
        limit: u64,
    },
    /// The disk has failed a moment ago, so nothing new is stored for a while.
    #[error("the store's disk has failed a moment ago")]
    Suspended,
    /// The files cannot be read now, which is no fault of theirs.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How full the store is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupancy {
    /// Complete images.
    pub images: usize,
    /// Images that are being filled.
    pub filling: usize,
    /// Bytes that are taken or reserved.
    pub bytes: u64,
    /// Maximum of `bytes`.
    pub limit: u64,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) directory: Directory,
    pub(crate) reader: FileReader,
    pub(crate) writes: Threads,
    /// One thread for everything that gives files their names or takes them away, so that the order is that of the index.
    pub(crate) chores: Threads,
    pub(crate) counters: Counters,
    index: Mutex<Index>,
    usage: Arc<Usage>,
    limit: u64,
    retry: Duration,
}

impl Store {
    /// Opens the store, or creates it. Repairs what a killed process has left, and deletes what is beyond the size. Blocks.
    ///
    /// Threads are started here: open the store after dropping rights that are those of a thread, such as Landlock's.
    ///
    /// # Errors
    /// If another process has it open, or the file system fails.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let (directory, mut recovered) = Directory::open(&options.directory)?;
        let threads = |source| OpenError::Io {
            path: options.directory.clone(),
            source,
        };
        let inner = Inner {
            directory,
            reader: FileReader::start(options.read_threads.max(1)).map_err(threads)?,
            writes: Threads::start("store-write", options.write_threads.max(1)).map_err(threads)?,
            chores: Threads::start("store-chores", 1).map_err(threads)?,
            counters: Counters::default(),
            index: Mutex::default(),
            usage: Arc::default(),
            limit: options.size,
            retry: options.retry,
        };
        recovered.entries.sort_by_key(|(_, last_used)| *last_used);
        for (entry, _) in recovered.entries {
            inner.lock().insert(entry, &inner.usage);
        }
        for reason in recovered.dropped {
            inner.counters.dropped(reason, 1);
        }
        let excess = inner.usage.bytes().saturating_sub(inner.limit);
        let evicted = inner.lock().evict(excess).unwrap_or_default();
        inner.counters.evicted.add(evicted as u64);
        inner.delete();
        Ok(Self(Arc::new(inner)))
    }

    /// Returns the image, or who fills the store with it, or the right to do so. There is at most one fill per image.
    ///
    /// `size` is what Incus says the image has, in bytes: room is made for that much, and more is not accepted.
    ///
    /// # Errors
    /// If the store cannot help: ask Incus.
    pub async fn claim(&self, fingerprint: &Digest, size: u64) -> Result<Claim, ClaimError> {
        loop {
            let found = self.0.lock().look_up(fingerprint);
            match found {
                LookUp::Stored(used) => {
                    // Otherwise the files were damaged, or deleted a moment ago: the image is no longer in the index.
                    if let Some(image) = self.0.open_image(used).await? {
                        self.0.counters.hits.add(1);
                        return Ok(Claim::Stored(image));
                    }
                }
                LookUp::Filling(shared) => {
                    self.0.counters.followed.add(1);
                    return Ok(Claim::Filling(Filling::new(Arc::clone(&self.0), &shared)));
                }
                LookUp::Missing => {
                    if let Some(fill) = self.0.start_fill(fingerprint, size).await? {
                        return Ok(Claim::Vacant(fill));
                    }
                }
            }
        }
    }

    /// Returns the image if the store has it.
    ///
    /// # Errors
    /// If its files cannot be read now, which is no fault of theirs.
    pub async fn get(&self, fingerprint: &Digest) -> Result<Option<Image>, ReadError> {
        let used = self.0.lock().use_image(fingerprint);
        match used {
            Some(used) => self.0.open_image(used).await,
            None => Ok(None),
        }
    }

    /// The index: all complete images, in no order.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.0.lock().entries()
    }

    /// Forgets an image, at once, because it is no longer published. Its files are deleted in the background; readers that have
    /// it open, or follow its fill, can read on. Returns whether there was such an image or fill.
    pub fn remove(&self, fingerprint: &Digest) -> bool {
        let mut index = self.0.lock();
        let was_filling = index.fills.remove(fingerprint).is_some();
        let was_stored = index.remove(fingerprint);
        if was_stored {
            self.0.counters.removed.add(1);
            drop(self.0.delete_later());
        }
        was_filling || was_stored
    }

    /// Verifies every image, one after the other, as [`Image::verify`] does. Returns what is wrong; those images are no longer in
    /// the store.
    pub async fn scrub(&self) -> Vec<ReadError> {
        let mut wrong = Vec::new();
        for entry in self.entries() {
            let result = match self.get(&entry.fingerprint).await {
                Ok(Some(image)) => image.verify().await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            wrong.extend(result.err());
        }
        wrong
    }

    /// How full the store is.
    pub fn occupancy(&self) -> Occupancy {
        let index = self.0.lock();
        let (images, filling) = (index.len(), index.fills.len());
        Occupancy {
            images,
            filling,
            bytes: self.0.usage.bytes(),
            limit: self.0.limit,
        }
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// Waits until the files of everything that was removed so far are deleted.
    pub async fn settle(&self) {
        drop(self.0.chores.run(|| ()).await);
    }
}
