//! Why something is not stored, or cannot be read.

use std::io;
use std::sync::Arc;

use crate::digest::Digest;

/// Maximum size of a part's header in bytes. Incus sends about 200.
pub(crate) const MAX_HEADER: usize = 4 << 10;

/// Why an export was not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadExport {
    /// Neither of the two media types.
    #[error("Incus sent an export of type {0:?}, which is none of an image")]
    ContentType(String),
    /// A unified image without a length, or of no bytes.
    #[error("Incus sent a unified image without Content-Length, or an empty one")]
    NoLength,
    /// More bytes than announced.
    #[error("Incus sent more than the {0} bytes that the image has")]
    TooLong(u64),
    /// It ended too early.
    #[error("the export ended before it was complete")]
    Torn,
    /// The content is not that of the fingerprint.
    #[error("the export has the SHA-256 digest {actual}, not the fingerprint {fingerprint}")]
    WrongHash {
        /// What was asked for.
        fingerprint: Digest,
        /// What came.
        actual: Digest,
    },
    /// The same part again.
    #[error("the part {0:?} came twice")]
    PartTwice(String),
    /// A part with an unknown name, in the wrong place, or one too many.
    #[error("the part {0:?} is not expected here")]
    UnexpectedPart(String),
    /// A file name that is no plain file name.
    #[error("the file name {0:?} is not allowed")]
    FileName(String),
    /// The header of a part is too large.
    #[error("the header of a part is larger than {} bytes", MAX_HEADER)]
    HeaderTooLarge,
    /// Something that is not multipart as Incus writes it.
    #[error("the multipart export is malformed: {0}")]
    Malformed(&'static str),
}

/// Why an image was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FillError {
    /// What Incus sent is not the image.
    #[error(transparent)]
    Export(#[from] BadExport),
    /// The store's file system failed: it is full, read-only or broken.
    #[error("the store cannot be written: {0}")]
    Disk(Arc<io::Error>),
    /// The caller stopped the fill, for example because Incus ended the transfer.
    #[error("the transfer from Incus was given up")]
    Abandoned,
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
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

impl ReadError {
    /// Whether a file has changed since it was verified. What was read of it before may be wrong, too.
    pub fn is_change(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
    }
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
    /// Images displace each other too fast.
    #[error("the store has replaced its content too fast; it needs more space for the images in demand")]
    Turnover,
    /// The disk has failed a moment ago, so nothing new is stored for a while.
    #[error("the store's disk has failed a moment ago")]
    Suspended,
    /// The files cannot be read now, which is no fault of theirs.
    #[error(transparent)]
    Read(#[from] ReadError),
}
