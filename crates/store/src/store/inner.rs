//! What the store does behind its interface.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::{ClaimError, Inner};
use crate::counters::{Counts, DropReason};
use crate::digest::{Digest, Hasher};
use crate::fill::progress::FillShared;
use crate::fill::{Fill, FillError, Sink};
use crate::image::{Image, OpenImage, ReadError, damage};
use crate::index::{Blob, Index, LookUp, Space, Used};

/// How much of a file is hashed at a time, in bytes: other readers get their turn in between.
const VERIFY_STEP: usize = 1 << 20;

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing that is done with the lock can panic halfway.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an image that the index has. `None` if its files were damaged, in which case the index has it no longer, or deleted.
    pub(super) async fn open_image(self: &Arc<Self>, used: Used) -> Result<Option<Image>, ReadError> {
        if used.is_touch_due {
            let (inner, fingerprint) = (Arc::clone(self), used.open.entry.fingerprint);
            // Costs nothing but the order after a restart if it fails.
            drop(self.chores.start_job(move || inner.directory.touch(&fingerprint)));
        }
        match Image::open(self, used.open).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if damage(&error.source).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the files of an image, and drops the image if they are damaged. Blocks.
    pub(crate) fn open_files(self: &Arc<Self>, open: &OpenImage) -> io::Result<Arc<[Arc<File>]>> {
        let parts = open.entry.parts.iter().zip(&open.blobs);
        let opened = parts.map(|(part, blob)| {
            self.open_file(&part.sha256, part.size)
                .map(Arc::new)
                .inspect_err(|error| {
                    if let Some(reason) = damage(error) {
                        self.drop_damaged(blob, reason);
                    }
                })
        });
        opened.collect()
    }

    fn open_file(&self, digest: &Digest, size: u64) -> io::Result<File> {
        let file = self.directory.open_file(digest)?;
        let metadata = file.metadata()?;
        match metadata.is_file() && metadata.len() == size {
            true => Ok(file),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Makes room and registers a fill. `None` if the image, or another fill of it, has come in the meantime.
    pub(super) async fn start_fill(
        self: &Arc<Self>,
        fingerprint: &Digest,
        size: u64,
    ) -> Result<Option<Fill>, ClaimError> {
        let (fill, deletion) = {
            let mut index = self.lock();
            if !matches!(index.look_up(fingerprint), LookUp::Missing) {
                return Ok(None);
            }
            if index.suspended_until.is_some_and(|until| Instant::now() < until) {
                return Err(ClaimError::Suspended);
            }
            let excess = self.usage.bytes().saturating_add(size).saturating_sub(self.limit);
            let Some(victims) = index.evict(excess) else {
                self.counters.no_room.add(1);
                return Err(ClaimError::NoRoom {
                    needed: size,
                    limit: self.limit,
                });
            };
            self.counters.evicted.add(victims as u64);
            let shared = Arc::new(FillShared::new(*fingerprint));
            index.fills.insert(*fingerprint, Arc::clone(&shared));
            let space = Space::take(&self.usage, size);
            let deletion = (victims > 0).then(|| self.delete_later());
            (Fill::new(Arc::clone(self), shared, space, size), deletion)
        };
        self.counters.misses.add(1);
        if let Some(deletion) = deletion {
            // The disk may be as full as the store.
            drop(deletion.await);
        }
        Ok(Some(fill))
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

    /// Gives the files of a complete fill their names and enters the image. `None` if it was removed in the meantime. Runs on the
    /// thread for chores.
    pub(crate) fn commit(&self, fill: &Arc<FillShared>, sink: &Sink) -> Result<Option<Arc<OpenImage>>, FillError> {
        if !self.lock().is_current(fill) {
            return Ok(None);
        }
        let entry = sink.entry();
        let written = self.publish(sink).and_then(|()| self.directory.write_entry(&entry));
        let entered = match written {
            Ok(()) => {
                let mut index = self.lock();
                index.end_fill(fill).then(|| index.insert(entry, &self.usage))
            }
            Err(_) => None,
        };
        if entered.is_none() {
            let _ = self.directory.delete_entry(&fill.fingerprint);
            sink.files().for_each(|(digest, _)| self.delete_unknown(&digest));
        } else {
            self.counters.filled.add(1);
        }
        written?;
        Ok(entered)
    }

    fn publish(&self, sink: &Sink) -> io::Result<()> {
        for (digest, incoming) in sink.files() {
            self.directory.publish(incoming, &digest)?;
        }
        self.directory.sync_files()
    }

    /// Deletes a file unless the index has it.
    fn delete_unknown(&self, digest: &Digest) {
        if !self.lock().has_file(digest) {
            self.count_failure(self.directory.delete_file(digest));
        }
    }

    /// Starts deleting what the index has removed. Called with the index locked, so that a later fill of the same image is entered
    /// after that.
    pub(super) fn delete_later(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let inner = Arc::clone(self);
        self.chores.start_job(move || inner.delete())
    }

    /// Deletes what the index has removed.
    pub(super) fn delete(&self) {
        let (entries, files) = self.lock().take_garbage();
        for fingerprint in entries {
            self.count_failure(self.directory.delete_entry(&fingerprint));
        }
        for blob in files {
            self.count_failure(self.directory.delete_file(&blob.digest));
        }
    }

    fn count_failure(&self, result: io::Result<()>) {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.counters.failed_deletions.add(1),
            _ => {}
        }
    }

    /// Drops a damaged file with all images that have it.
    pub(crate) fn drop_damaged(self: &Arc<Self>, blob: &Arc<Blob>, reason: DropReason) {
        let mut index = self.lock();
        let images = index.remove_damaged(blob);
        self.counters.dropped(reason, images as u64);
        let (inner, digest) = (Arc::clone(self), blob.digest);
        drop(self.chores.start_job(move || {
            inner.delete();
            inner.delete_unknown(&digest);
        }));
    }

    /// Compares the files with their digests.
    pub(crate) async fn verify(self: &Arc<Self>, open: &OpenImage, files: &[Arc<File>]) -> Result<(), ReadError> {
        for (file, blob) in files.iter().zip(&open.blobs) {
            let result = match self.hash(file).await {
                Ok(digest) if digest == blob.digest => Ok(()),
                Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "its content has changed")),
                Err(error) => Err(error),
            };
            if let Err(source) = result {
                if let Some(reason) = damage(&source) {
                    self.drop_damaged(blob, reason);
                }
                return Err(ReadError {
                    fingerprint: open.entry.fingerprint,
                    source,
                });
            }
        }
        Ok(())
    }

    async fn hash(&self, file: &Arc<File>) -> io::Result<Digest> {
        let (mut hasher, mut buffer, mut offset) = (Hasher::new(), vec![0; VERIFY_STEP], 0);
        loop {
            let file = Arc::clone(file);
            let step = move || {
                let count = file.read_at(&mut buffer, offset)?;
                hasher.update(&buffer[..count]);
                Ok::<_, io::Error>((hasher, buffer, count))
            };
            let count;
            (hasher, buffer, count) = self.reader.run(step).await??;
            if count == 0 {
                return Ok(hasher.finish());
            }
            offset += count as u64;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let counters = &self.counters;
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
            cached_reads: self.reader.cached.value(),
            blocking_reads: self.reader.blocking.value(),
        }
    }
}
