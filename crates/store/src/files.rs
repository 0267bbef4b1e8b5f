//! The files of a complete image. A caller that finds one damaged drops the image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::damage::damage;
use crate::digest::{Digest, Hasher};
use crate::directory;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::open::{OpenFiles, OpenImage};
use crate::read::Reading;
use crate::shared::Shared;

/// How much of a file is hashed at a time, in bytes.
const VERIFY_STEP: usize = 1 << 20;

/// The open files of an image, and the store that they are in.
#[derive(Clone, Debug)]
pub(crate) struct ImageFiles {
    store: Arc<Shared>,
    open: OpenFiles,
}

impl ImageFiles {
    pub(crate) fn new(store: &Arc<Shared>, open: OpenFiles) -> Self {
        let store = Arc::clone(store);
        Self { store, open }
    }

    /// Opens the files, once for all readers. Files that are missing, of another size or unreadable cost the image its place.
    pub(crate) async fn open(store: &Arc<Shared>, image: Arc<OpenImage>) -> Result<Self, ReadError> {
        let opened = image.files.get_or_try_init(|| async {
            let (shared, image) = (Arc::clone(store), Arc::clone(&image));
            store.reader.run(move || open_files(&shared, &image)).await?
        });
        let fingerprint = image.entry.fingerprint;
        let files = opened.await.map_err(|source| ReadError { fingerprint, source })?;
        let files = Arc::clone(files);
        let this = Self::new(store, OpenFiles { image, files });
        if !this.is_sealed() {
            this.verify_changed().await?;
        }
        Ok(this)
    }

    /// The files without the store.
    pub(crate) fn open_files(&self) -> &OpenFiles {
        &self.open
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.open.image.entry
    }

    /// Starts reading the file with this index. An error is for [`Self::failed`].
    pub(crate) fn read(&self, index: usize, offset: u64, length: u64) -> Reading {
        self.store.reader.read(&self.open.files[index], offset, length)
    }

    /// Drops the image if the error says that its file is damaged.
    pub(crate) fn failed(&self, index: usize, source: io::Error) -> ReadError {
        if let Some(reason) = damage(&source) {
            self.store.drop_damaged(&self.open.image.blobs[index], reason);
        }
        self.error(source)
    }

    fn error(&self, source: io::Error) -> ReadError {
        ReadError {
            fingerprint: self.entry().fingerprint,
            source,
        }
    }

    /// Checks at the end of a download that what was read is what was verified.
    pub(crate) fn check_unchanged(&self) -> Result<(), ReadError> {
        match self.is_sealed() {
            true => Ok(()),
            // Whoever asks for the image next verifies it.
            false => Err(self.error(changed())),
        }
    }

    fn is_sealed(&self) -> bool {
        self.open.files.iter().all(|file| directory::is_sealed(file))
    }

    /// Compares the files with their digests.
    pub(crate) async fn verify(&self) -> Result<(), ReadError> {
        let this = self.clone();
        self.run(move || this.compare(|_| true)).await
    }

    /// Verifies files that were changed, or copied to the store, once for all readers.
    async fn verify_changed(&self) -> Result<(), ReadError> {
        let turn = Arc::clone(&self.open.image.checking).lock_owned().await;
        let this = self.clone();
        let compare = move || {
            let _turn = turn;
            this.compare(|file| !directory::is_sealed(file))
        };
        self.run(compare).await
    }

    /// Runs work on a thread. It goes on if nobody waits for it any more: a large image is verified at some time.
    async fn run(&self, work: impl FnOnce() -> Result<(), ReadError> + Send + 'static) -> Result<(), ReadError> {
        let done = self.store.reader.run(work).await;
        done.unwrap_or_else(|error| Err(self.error(error)))
    }

    /// Compares files with their digests. A file that differs is dropped. Blocks.
    fn compare(&self, is_wanted: impl Fn(&File) -> bool) -> Result<(), ReadError> {
        for (index, (file, blob)) in self.open.files.iter().zip(&self.open.image.blobs).enumerate() {
            if is_wanted(file) {
                compare(file, &blob.digest).map_err(|source| self.failed(index, source))?;
            }
        }
        Ok(())
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its content has changed")
}

/// Compares a file with its digest, and seals it.
fn compare(file: &File, digest: &Digest) -> io::Result<()> {
    let modified = file.metadata()?.modified()?;
    let (mut hasher, mut buffer, mut offset) = (Hasher::new(), vec![0; VERIFY_STEP], 0);
    loop {
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    if hasher.finish() != *digest {
        return Err(changed());
    }
    if !directory::is_sealed(file) && file.metadata()?.modified()? == modified {
        // On a read-only file system, each reader verifies it.
        let _ = directory::seal(file);
    }
    Ok(())
}

/// Opens the files of an image, and drops the image if they are damaged. Blocks.
fn open_files(store: &Arc<Shared>, image: &OpenImage) -> io::Result<Arc<[Arc<File>]>> {
    let parts = image.entry.parts.iter().zip(&image.blobs);
    let opened = parts.map(|(part, blob)| {
        open_file(store, &part.sha256, part.size)
            .map(Arc::new)
            .inspect_err(|error| {
                if let Some(reason) = damage(error) {
                    store.drop_damaged(blob, reason);
                }
            })
    });
    opened.collect()
}

fn open_file(store: &Shared, digest: &Digest, size: u64) -> io::Result<File> {
    let file = store.directory.open_file(digest)?;
    let metadata = file.metadata()?;
    match metadata.is_file() && metadata.len() == size {
        true => Ok(file),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
