//! The files of a complete image. A caller that finds one damaged drops the image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::damage::damage;
use crate::digest::{Digest, Hasher};
use crate::entry::Entry;
use crate::error::ReadError;
use crate::open::{OpenFiles, OpenImage};
use crate::read::Reading;
use crate::shared::Shared;

/// How much of a file is hashed at a time, in bytes: other readers get their turn in between.
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
        Ok(Self::new(store, OpenFiles { image, files }))
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
        ReadError {
            fingerprint: self.entry().fingerprint,
            source,
        }
    }

    /// Compares the files with their digests.
    pub(crate) async fn verify(&self) -> Result<(), ReadError> {
        for (index, (file, blob)) in self.open.files.iter().zip(&self.open.image.blobs).enumerate() {
            let result = match self.hash(file).await {
                Ok(digest) if digest == blob.digest => Ok(()),
                Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "its content has changed")),
                Err(error) => Err(error),
            };
            result.map_err(|source| self.failed(index, source))?;
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
            (hasher, buffer, count) = self.store.reader.run(step).await??;
            if count == 0 {
                return Ok(hasher.finish());
            }
            offset += count as u64;
        }
    }
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
