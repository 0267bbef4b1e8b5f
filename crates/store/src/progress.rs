//! How far a fill is, for its followers.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::digest::Digest;
use crate::error::FillError;
use crate::layout::DownloadHead;
use crate::open::OpenFiles;
use crate::part::PartHead;

/// One fill, as the index and its writer share it.
#[derive(Debug)]
pub(crate) struct FillShared {
    pub(crate) fingerprint: Digest,
    pub(crate) progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) head: Option<DownloadHead>,
    /// The parts of which at least the header has come.
    pub(crate) parts: Vec<Growing>,
    /// Whether the fingerprint is right, so that followers may have the end. The files need not be durable for that.
    pub(crate) is_verified: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// A file that grows.
#[derive(Clone, Debug)]
pub(crate) struct Growing {
    pub(crate) head: PartHead,
    pub(crate) file: Arc<File>,
    pub(crate) written: u64,
    /// Whether it has its full size.
    pub(crate) is_complete: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// In the store, unless it was removed. It keeps its place while there are followers.
    Complete(Option<OpenFiles>),
    Failed(FillError),
}

impl FillShared {
    pub(crate) fn new(fingerprint: Digest) -> Self {
        Self {
            fingerprint,
            progress: watch::Sender::default(),
        }
    }

    /// Sets the outcome, unless there is one. Returns whether there was none.
    pub(crate) fn end(&self, outcome: Outcome) -> bool {
        self.progress.send_if_modified(|progress| {
            let is_first = progress.outcome.is_none();
            if is_first {
                progress.outcome = Some(outcome);
            }
            is_first
        })
    }
}
