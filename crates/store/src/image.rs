//! A complete image for a reader.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::damage::damage;
use crate::digest::Digest;
use crate::download::Download;
use crate::error::ReadError;
use crate::files::ImageFiles;
use crate::index::Used;
use crate::layout::{self, DownloadHead, Segment};
use crate::open::{OpenFiles, OpenImage};
use crate::part::{Part, PartKind};
use crate::shared::Shared;

/// A complete image in the store. While there is such a value, the image is not evicted; if it is removed, its files stay
/// readable.
#[derive(Clone, Debug)]
pub struct Image {
    files: ImageFiles,
}

impl Image {
    pub(crate) fn new(store: &Arc<Shared>, open: OpenFiles) -> Self {
        let files = ImageFiles::new(store, open);
        Self { files }
    }

    /// Opens the files. Damaged ones cost the image its place.
    pub(crate) async fn open(store: &Arc<Shared>, open: Arc<OpenImage>) -> Result<Self, ReadError> {
        let files = ImageFiles::open(store, open).await?;
        Ok(Self { files })
    }

    /// Opens an image that the index has. `None` if its files were damaged, in which case the index has it no longer, or deleted.
    pub(crate) async fn open_used(store: &Arc<Shared>, used: Used) -> Result<Option<Self>, ReadError> {
        if used.is_touch_due {
            let (shared, fingerprint) = (Arc::clone(store), used.open.entry.fingerprint);
            // Costs nothing but the order after a restart if it fails.
            drop(store.chores.start_job(move || shared.directory.touch(&fingerprint)));
        }
        match Self::open(store, used.open).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if damage(&error.source).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an image and verifies it, for nobody in particular.
    pub(crate) async fn scrub(store: &Arc<Shared>, open: Arc<OpenImage>) -> Result<(), ReadError> {
        Self::open(store, open).await?.verify().await
    }

    /// The files without the store.
    pub(crate) fn open_files(&self) -> &OpenFiles {
        self.files.open_files()
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Digest {
        self.files.entry().fingerprint
    }

    /// The files, with their digests and sizes.
    pub fn parts(&self) -> &[Part] {
        &self.files.entry().parts
    }

    /// The header fields of its export, with the length.
    pub fn head(&self) -> DownloadHead {
        let (fingerprint, length) = (self.fingerprint(), self.export_length());
        match self.parts() {
            [part] if part.kind == PartKind::Unified => DownloadHead::unified(&fingerprint, &part.extension, length),
            _ => DownloadHead::split(&fingerprint, Some(length)),
        }
    }

    /// Length of its export in bytes.
    pub fn export_length(&self) -> u64 {
        self.segments().iter().map(Segment::len).fold(0, u64::saturating_add)
    }

    /// Reads a range of its export. What lies behind the end is left out.
    pub fn export(&self, range: Range<u64>) -> Download {
        Download::stored(self.files.clone(), self.segments(), range)
    }

    /// Reads a range of one file, by its index in [`Self::parts`]; nothing if there is no such part.
    pub fn part(&self, index: usize, range: Range<u64>) -> Download {
        let part = self.parts().get(index);
        let segments = part.map(|part| Segment::File(index, part.size)).into_iter().collect();
        Download::stored(self.files.clone(), segments, range)
    }

    /// Reads at most `length` bytes and 64 KiB of one file, by its index in [`Self::parts`]; fewer where only some are in the
    /// page cache, none behind its end.
    ///
    /// # Errors
    /// If the file cannot be read. It is then no longer in the store.
    pub async fn read_at(&self, index: usize, offset: u64, length: u64) -> Result<Bytes, ReadError> {
        let size = self.parts().get(index).map_or(0, |part| part.size);
        let length = length.min(size.saturating_sub(offset));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut reading = self.files.read(index, offset, length);
        let read = poll_fn(|cx| reading.poll(cx)).await;
        read.map_err(|error| self.files.failed(index, error))
    }

    /// Reads all files and compares them with their digests. If one differs, all images that have it are dropped.
    ///
    /// # Errors
    /// If a file differs or cannot be read.
    pub async fn verify(&self) -> Result<(), ReadError> {
        self.files.verify().await
    }

    fn segments(&self) -> Vec<Segment> {
        layout::segments(&self.fingerprint(), self.parts())
    }
}
