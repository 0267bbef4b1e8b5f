//! A complete image for a reader.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::counters::DropReason;
use crate::digest::Digest;
use crate::download::Download;
use crate::entry::Entry;
use crate::index::Blob;
use crate::layout::{self, DownloadHead, Segment};
use crate::part::{Part, PartKind};
use crate::store::Inner;

/// An image that is in use, with its files open or about to be.
#[derive(Debug)]
pub(crate) struct OpenImage {
    pub(crate) entry: Arc<Entry>,
    /// The file of each part.
    pub(crate) blobs: Vec<Arc<Blob>>,
    files: OnceCell<Arc<[Arc<File>]>>,
}

impl OpenImage {
    pub(crate) fn new(entry: Arc<Entry>, blobs: Vec<Arc<Blob>>) -> Self {
        Self {
            entry,
            blobs,
            files: OnceCell::new(),
        }
    }
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored image {fingerprint} cannot be read: {source}")]
pub struct ReadError {
    /// The image.
    pub fingerprint: Digest,
    /// What the system says.
    pub source: io::Error,
}

/// A complete image in the store. While there is such a value, the image is not evicted; if it is removed, its files stay
/// readable.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) store: Arc<Inner>,
    open: Arc<OpenImage>,
    files: Arc<[Arc<File>]>,
}

impl Image {
    /// Opens the files, once for all readers. Files that are missing, of another size or unreadable cost the image its place.
    pub(crate) async fn open(store: &Arc<Inner>, open: Arc<OpenImage>) -> Result<Self, ReadError> {
        let opened = open.files.get_or_try_init(|| async {
            let (inner, open) = (Arc::clone(store), Arc::clone(&open));
            store.reader.run(move || inner.open_files(&open)).await?
        });
        let fingerprint = open.entry.fingerprint;
        let files = opened.await.map_err(|source| ReadError { fingerprint, source })?;
        let files = Arc::clone(files);
        Ok(Self {
            store: Arc::clone(store),
            open,
            files,
        })
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Digest {
        self.open.entry.fingerprint
    }

    /// The files, with their digests and sizes.
    pub fn parts(&self) -> &[Part] {
        &self.open.entry.parts
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
        Download::stored(self.clone(), self.segments(), range)
    }

    /// Reads a range of one file, by its index in [`Self::parts`]; nothing if there is no such part.
    pub fn part(&self, index: usize, range: Range<u64>) -> Download {
        let part = self.parts().get(index);
        let segments = part.map(|part| Segment::File(index, part.size)).into_iter().collect();
        Download::stored(self.clone(), segments, range)
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
        let mut reading = self.store.reader.read(self.file(index), offset, length);
        let read = poll_fn(|cx| reading.poll(cx)).await;
        read.map_err(|error| self.failed(index, error))
    }

    /// Reads all files and compares them with their digests. If one differs, all images that have it are dropped.
    ///
    /// # Errors
    /// If a file differs or cannot be read.
    pub async fn verify(&self) -> Result<(), ReadError> {
        self.store.verify(&self.open, &self.files).await
    }

    fn segments(&self) -> Vec<Segment> {
        layout::segments(&self.fingerprint(), self.parts())
    }

    pub(crate) fn file(&self, index: usize) -> &Arc<File> {
        &self.files[index]
    }

    /// Drops the image if the error says that its file is damaged.
    pub(crate) fn failed(&self, index: usize, source: io::Error) -> ReadError {
        if let Some(reason) = damage(&source) {
            self.store.drop_damaged(&self.open.blobs[index], reason);
        }
        ReadError {
            fingerprint: self.fingerprint(),
            source,
        }
    }
}

/// What an error tells about a file. `None` if it tells more about this machine, such as a lack of memory or descriptors.
pub(crate) fn damage(error: &io::Error) -> Option<DropReason> {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return Some(DropReason::WrongSize),
        io::ErrorKind::NotFound => return Some(DropReason::Missing),
        io::ErrorKind::InvalidData => return Some(DropReason::WrongHash),
        _ => {}
    }
    let damages = [
        Errno::IO,
        Errno::ACCESS,
        Errno::PERM,
        Errno::LOOP,
        Errno::STALE,
        Errno::ISDIR,
        Errno::NXIO,
        Errno::BADMSG,
        Errno::UCLEAN,
    ];
    let errno = Errno::from_io_error(error)?;
    damages.contains(&errno).then_some(DropReason::Unreadable)
}
