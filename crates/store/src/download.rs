//! The bytes of an image for one client: of a complete image or of one that is being filled.

mod following;
mod stored;

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::watch;

use crate::digest::Digest;
use crate::error::{FillError, ReadError};
use crate::files::ImageFiles;
use crate::layout::Segment;
use crate::progress::Progress;
use crate::shared::Shared;
use following::Following;
use stored::Stored;

/// Why a download ended before its end. The client must see a cut transfer, or get the rest from elsewhere:
/// [`Download::position`] says where it is to go on.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image was being filled, and that failed.
    #[error(transparent)]
    Fill(#[from] FillError),
}

/// A stream of bytes, in chunks of at most 64 KiB. It holds at most one of them.
#[derive(Debug)]
pub struct Download {
    source: Source,
    position: u64,
    is_ended: bool,
}

#[derive(Debug)]
enum Source {
    Stored(Stored),
    Following(Box<Following>),
}

impl Download {
    pub(crate) fn stored(files: ImageFiles, segments: Vec<Segment>, range: Range<u64>) -> Self {
        let source = Source::Stored(Stored::new(files, segments, range));
        Self {
            source,
            position: 0,
            is_ended: false,
        }
    }

    pub(crate) fn following(store: Arc<Shared>, fingerprint: Digest, progress: watch::Receiver<Progress>) -> Self {
        let source = Source::Following(Box::new(Following::new(store, fingerprint, progress)));
        Self {
            source,
            position: 0,
            is_ended: false,
        }
    }

    /// How many bytes are left; unknown while the image is filled.
    pub fn remaining(&self) -> Option<u64> {
        match &self.source {
            Source::Stored(stored) => Some(stored.remaining()),
            Source::Following(_) => None,
        }
    }

    /// How many bytes it has returned.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next bytes, or an error, or `None` at the end. After an error there is nothing more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, DownloadError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let next = match &mut self.source {
            Source::Stored(stored) => stored.poll_next(cx).map_err(DownloadError::from),
            Source::Following(following) => following.poll_next(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(bytes))) => self.position += bytes.len() as u64,
            Poll::Ready(_) => self.is_ended = true,
            Poll::Pending => {}
        }
        next
    }

    /// Like [`Self::poll_next`]. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Bytes, DownloadError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}
