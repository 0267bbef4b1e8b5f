//! Filling the store with one image, from the export that Incus sends.

mod commit;
mod sink;
mod start;

use std::sync::Arc;

use bytes::Bytes;

use crate::counters::Counter;
use crate::digest::Digest;
use crate::error::FillError;
use crate::export::{ExportHead, ExportParser};
use crate::filling::Filling;
use crate::image::Image;
use crate::progress::{FillShared, Outcome};
use crate::shared::Shared;
use crate::space::Space;
use sink::Sink;

/// The right, and duty, to fill the store with one image. Dropping it fails the followers.
#[derive(Debug)]
pub struct Fill {
    claim: ClaimedFill,
    limit: u64,
}

impl Fill {
    /// The image.
    pub fn fingerprint(&self) -> Digest {
        self.claim.shared.fingerprint
    }

    /// What followers use, the client that caused the fill among them.
    pub fn filling(&self) -> Filling {
        self.claim.filling()
    }

    /// Completes when nobody follows this fill. Somebody may begin to afterwards, until the fill is dropped.
    pub fn unfollowed(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.claim.shared);
        async move { shared.progress.closed().await }
    }

    /// Starts with the header of Incus's response.
    ///
    /// # Errors
    /// If it is not the header of an image.
    pub fn begin(self, head: &ExportHead<'_>) -> Result<FillWriter, FillError> {
        let fingerprint = self.claim.shared.fingerprint;
        let parser = match ExportParser::new(head, self.limit) {
            Ok(parser) => parser,
            Err(error) => return Err(self.claim.fail(error.into())),
        };
        let head = parser.download_head(&fingerprint);
        self.claim
            .shared
            .progress
            .send_modify(|progress| progress.head = Some(head));
        let sink = Sink::new(Arc::clone(&self.claim.store), Arc::clone(&self.claim.shared));
        Ok(FillWriter {
            state: Some(Box::new(Writing { parser, sink })),
            claim: self.claim,
        })
    }
}

/// Takes the body of Incus's response. Dropping it before [`FillWriter::finish`] fails the followers and leaves nothing on disk.
#[derive(Debug)]
pub struct FillWriter {
    /// Away while a thread works with it.
    state: Option<Box<Writing>>,
    claim: ClaimedFill,
}

#[derive(Debug)]
struct Writing {
    parser: ExportParser,
    sink: Sink,
}

impl Writing {
    fn write(&mut self, chunk: Bytes) -> Result<(), FillError> {
        let Self { parser, sink } = self;
        parser.push(chunk, &mut |event| sink.take(event))?;
        sink.report();
        Ok(())
    }

    fn complete(mut self) -> Result<Sink, FillError> {
        self.parser.finish()?;
        self.sink.complete()?;
        Ok(self.sink)
    }
}

impl FillWriter {
    /// What followers use.
    pub fn filling(&self) -> Filling {
        self.claim.filling()
    }

    /// Writes the next bytes of the body. Larger chunks are cheaper: each one costs a switch to another thread.
    ///
    /// # Errors
    /// If the bytes are not the image or cannot be written. The fill has then failed.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), FillError> {
        let Some(mut state) = self.state.take() else {
            // An earlier error, or a call of this function that was dropped before its end.
            return Err(self.claim.fail(FillError::Abandoned));
        };
        let work = move || {
            let result = state.write(chunk);
            (state, result)
        };
        match self.claim.store.writes.run(work).await {
            Ok((state, Ok(()))) => {
                self.state = Some(state);
                Ok(())
            }
            Ok((state, Err(error))) => {
                self.claim.discard(state);
                Err(self.claim.fail(error))
            }
            Err(error) => Err(self.claim.fail(error.into())),
        }
    }

    /// Ends the body: checks the fingerprint and adds the image to the store. `None` if the image was removed in the meantime; it
    /// is then complete for its followers, and not stored.
    ///
    /// # Errors
    /// If the bytes are not the image or cannot be written.
    pub async fn finish(mut self) -> Result<Option<Image>, FillError> {
        let result = self.complete().await;
        result.map_err(|error| self.claim.fail(error))
    }

    async fn complete(&mut self) -> Result<Option<Image>, FillError> {
        let state = self.state.take().ok_or(FillError::Abandoned)?;
        let store = &self.claim.store;
        let sink = store.writes.run(move || state.complete()).await??;
        let open = store.chores.run(move || sink.commit()).await??;
        let image = match open {
            // Files that were renamed a moment ago. If they cannot be opened, the followers still have theirs.
            Some(open) => Image::open(store, open).await.ok(),
            None => None,
        };
        let open = image.as_ref().map(Image::open_files).cloned();
        self.claim.shared.end(Outcome::Complete(open));
        Ok(image)
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.claim.discard(state);
        }
    }
}

/// A fill that the index lists. Dropping it ends the fill, with an error unless it is complete.
#[derive(Debug)]
struct ClaimedFill {
    store: Arc<Shared>,
    shared: Arc<FillShared>,
    space: Space,
}

impl ClaimedFill {
    fn filling(&self) -> Filling {
        Filling::new(Arc::clone(&self.store), &self.shared)
    }

    /// Ends the fill, and counts why, unless it has ended.
    fn fail(&self, error: FillError) -> FillError {
        self.store.lock().end_fill(&self.shared);
        if self.shared.end(Outcome::Failed(error.clone())) {
            self.counter(&error).add(1);
            if let FillError::Disk(error) = &error {
                self.store.suspend_fills(error.kind(), self.space.bytes());
            }
        }
        error
    }

    fn counter(&self, error: &FillError) -> &Counter {
        let counters = &self.store.counters;
        match error {
            FillError::Export(_) => &counters.bad_exports,
            FillError::Disk(_) => &counters.disk_errors,
            FillError::Abandoned => &counters.abandoned_fills,
        }
    }

    /// Deletes what was written, which may take a while for large files.
    fn discard(&self, state: Box<Writing>) {
        drop(self.store.chores.start_job(move || drop(state)));
    }
}

impl Drop for ClaimedFill {
    fn drop(&mut self) {
        self.fail(FillError::Abandoned);
    }
}
