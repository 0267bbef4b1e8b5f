//! How far a fill is, for its followers.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use crate::digest::Digest;
use crate::download::Download;
use crate::export::PartHead;
use crate::fill::FillError;
use crate::image::Image;
use crate::layout::DownloadHead;
use crate::store::Inner;

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
    Complete(Option<Image>),
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

/// An image that the store is being filled with.
#[derive(Clone, Debug)]
pub struct Filling {
    store: Arc<Inner>,
    fingerprint: Digest,
    progress: watch::Receiver<Progress>,
}

impl Filling {
    pub(crate) fn new(store: Arc<Inner>, shared: &FillShared) -> Self {
        let progress = shared.progress.subscribe();
        Self {
            store,
            fingerprint: shared.fingerprint,
            progress,
        }
    }

    /// Waits for the header fields of the export.
    ///
    /// # Errors
    /// If the fill fails first. Nothing has been sent by then, so the caller can still ask Incus.
    pub async fn head(&self) -> Result<DownloadHead, FillError> {
        let mut receiver = self.progress.clone();
        let progress = receiver.wait_for(|progress| progress.head.is_some() || progress.outcome.is_some());
        let progress = progress.await.map_err(|_| FillError::Abandoned)?;
        match (&progress.outcome, &progress.head) {
            (Some(Outcome::Failed(error)), _) => Err(error.clone()),
            (_, Some(head)) => Ok(head.clone()),
            (_, None) => Err(FillError::Abandoned),
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If the fill fails. `None` if the image is complete, but not stored because it was removed in the meantime.
    pub async fn done(&self) -> Result<Option<Image>, FillError> {
        let mut receiver = self.progress.clone();
        let progress = receiver.wait_for(|progress| progress.outcome.is_some()).await;
        let progress = progress.map_err(|_| FillError::Abandoned)?;
        match &progress.outcome {
            Some(Outcome::Complete(image)) => Ok(image.clone()),
            Some(Outcome::Failed(error)) => Err(error.clone()),
            None => Err(FillError::Abandoned),
        }
    }

    /// Reads the export as it grows, from its first byte. Its end comes only after the fingerprint was checked.
    pub fn follow(&self) -> Download {
        Download::following(Arc::clone(&self.store), self.fingerprint, self.progress.clone())
    }
}
