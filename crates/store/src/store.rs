//! The store itself.

use std::sync::Arc;

use crate::counters::Counts;
use crate::digest::Digest;
use crate::directory::OpenError;
use crate::entry::Entry;
use crate::error::{ClaimError, ReadError};
use crate::fill::Fill;
use crate::filling::Filling;
use crate::image::Image;
use crate::index::LookUp;
use crate::options::Options;
use crate::shared::Shared;

/// Verified image files on disk. All clones are the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

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

impl Store {
    /// Opens the store, or creates it. Repairs what a killed process has left, and deletes what is beyond the size. Blocks.
    ///
    /// Threads are started here: open the store after dropping rights that are those of a thread, such as Landlock's.
    ///
    /// # Errors
    /// If another process has it open, or the file system fails.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Shared::open(options).map(|shared| Self(Arc::new(shared)))
    }

    /// Returns the image, or who fills the store with it, or the right to do so. There is at most one fill per image.
    ///
    /// `size` is what Incus says the image has, in bytes: room is made for that much, and more is not accepted.
    ///
    /// # Errors
    /// If the store cannot help: ask Incus.
    pub async fn claim(&self, fingerprint: &Digest, size: u64) -> Result<Claim, ClaimError> {
        loop {
            if let Some(found) = self.join(fingerprint).await? {
                return Ok(found);
            }
            if let Some(fill) = Fill::start(&self.0, fingerprint, size).await? {
                return Ok(Claim::Vacant(fill));
            }
        }
    }

    /// Like [`Self::claim`], for callers that may not fill the store now: never [`Claim::Vacant`], and no room is made.
    ///
    /// # Errors
    /// If the files cannot be read now, which is no fault of theirs.
    pub async fn join(&self, fingerprint: &Digest) -> Result<Option<Claim>, ReadError> {
        let found = self.0.lock().look_up(fingerprint);
        match found {
            LookUp::Stored(used) => {
                // Otherwise the files were damaged, or deleted a moment ago: the image is no longer in the index.
                let image = Image::open_used(&self.0, used).await?;
                self.0.counters.hits.add(u64::from(image.is_some()));
                Ok(image.map(Claim::Stored))
            }
            LookUp::Filling(shared) => {
                self.0.counters.followed.add(1);
                Ok(Some(Claim::Filling(Filling::new(Arc::clone(&self.0), &shared))))
            }
            LookUp::Missing => Ok(None),
        }
    }

    /// Returns the image if the store has it.
    ///
    /// # Errors
    /// If its files cannot be read now, which is no fault of theirs.
    pub async fn get(&self, fingerprint: &Digest) -> Result<Option<Image>, ReadError> {
        let used = self.0.lock().use_image(fingerprint);
        match used {
            Some(used) => Image::open_used(&self.0, used).await,
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

    /// Verifies every image, one after the other, as [`Image::verify`] does; this is no use of them. Returns what is wrong; those
    /// images are no longer in the store.
    pub async fn scrub(&self) -> Vec<ReadError> {
        let mut wrong = Vec::new();
        for entry in self.entries() {
            let open = self.0.lock().open_quietly(&entry.fingerprint);
            let result = match open {
                Some(open) => Image::scrub(&self.0, open).await,
                None => Ok(()),
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
        let counters = &self.0.counters;
        Counts {
            hits: counters.hits.value(),
            misses: counters.misses.value(),
            followed: counters.followed.value(),
            filled: counters.filled.value(),
            bad_exports: counters.bad_exports.value(),
            abandoned_fills: counters.abandoned_fills.value(),
            disk_errors: counters.disk_errors.value(),
            evicted: counters.evicted.value(),
            removed: counters.removed.value(),
            no_room: counters.no_room.value(),
            failed_deletions: counters.failed_deletions.value(),
            dropped: counters.dropped_values(),
            cached_reads: self.0.reader.cached.value(),
            blocking_reads: self.0.reader.blocking.value(),
        }
    }

    /// Waits until the files of everything that was removed so far are deleted.
    pub async fn settle(&self) {
        drop(self.0.chores.run(|| ()).await);
    }
}
