//! A fill for those that follow it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::digest::Digest;
use crate::download::Download;
use crate::error::FillError;
use crate::image::Image;
use crate::layout::DownloadHead;
use crate::progress::{FillShared, Outcome, Progress};
use crate::shared::Shared;

/// An image that the store is being filled with.
#[derive(Clone, Debug)]
pub struct Filling {
    store: Arc<Shared>,
    fingerprint: Digest,
    progress: watch::Receiver<Progress>,
}

impl Filling {
    pub(crate) fn new(store: Arc<Shared>, shared: &FillShared) -> Self {
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
            Some(Outcome::Complete(open)) => Ok(open.clone().map(|open| Image::new(&self.store, open))),
            Some(Outcome::Failed(error)) => Err(error.clone()),
            None => Err(FillError::Abandoned),
        }
    }

    /// Reads the export as it grows, from its first byte. Its end comes only after the fingerprint was checked.
    pub fn follow(&self) -> Download {
        Download::following(Arc::clone(&self.store), self.fingerprint, self.progress.clone())
    }
}
