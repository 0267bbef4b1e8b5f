//! The export of an image that is being filled. Its files are read as they grow; its end is held back until the fingerprint was
//! checked.

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::watch;

use super::DownloadError;
use crate::digest::Digest;
use crate::error::{FillError, ReadError};
use crate::layout;
use crate::part::PartKind;
use crate::progress::{Outcome, Progress};
use crate::read::Reading;
use crate::shared::Shared;

type Receiver = watch::Receiver<Progress>;
type Next = Poll<Option<Result<Bytes, DownloadError>>>;

pub(super) struct Following {
    store: Arc<Shared>,
    fingerprint: Digest,
    progress: Progressing,
    step: Step,
    reading: Option<Reading>,
}

/// The receiver, or the future that has it while it waits for a change.
enum Progressing {
    Idle(Receiver),
    Waiting(Pin<Box<dyn Future<Output = Option<Receiver>> + Send + Sync>>),
    /// The sender has gone.
    Gone,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Header(usize),
    /// Content of a part from this position on.
    Content(usize, u64),
    End,
}

/// What can be done now.
enum Action {
    Send(Bytes, Step),
    Read(Arc<File>, u64),
    Go(Step),
    Wait,
    Finish,
    Fail(FillError),
}

impl Following {
    pub(super) fn new(store: Arc<Shared>, fingerprint: Digest, progress: Receiver) -> Self {
        let progress = Progressing::Idle(progress);
        Self {
            store,
            fingerprint,
            progress,
            step: Step::Header(0),
            reading: None,
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Next {
        loop {
            if let (Some(reading), Step::Content(index, position)) = (&mut self.reading, self.step) {
                let result = ready!(reading.poll(cx));
                self.reading = None;
                return Poll::Ready(Some(match result {
                    Ok(bytes) => {
                        self.step = Step::Content(index, position + bytes.len() as u64);
                        Ok(bytes)
                    }
                    Err(source) => Err(ReadError {
                        fingerprint: self.fingerprint,
                        source,
                    }
                    .into()),
                }));
            }
            match self.action() {
                Action::Send(bytes, next) => {
                    self.step = next;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Action::Read(file, length) => {
                    let Step::Content(_, position) = self.step else {
                        continue;
                    };
                    self.reading = Some(self.store.reader.read(&file, position, length));
                }
                Action::Go(next) => self.step = next,
                Action::Wait => ready!(self.progress.poll_changed(cx)),
                Action::Finish => return Poll::Ready(None),
                Action::Fail(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn action(&mut self) -> Action {
        match &mut self.progress {
            Progressing::Idle(receiver) => next_action(&self.fingerprint, self.step, &receiver.borrow_and_update()),
            Progressing::Waiting(_) => Action::Wait,
            Progressing::Gone => Action::Fail(FillError::Abandoned),
        }
    }
}

fn next_action(fingerprint: &Digest, step: Step, progress: &Progress) -> Action {
    let is_complete = progress.is_verified;
    // A disk that fails later does not matter: the followers have the files open.
    if let (false, Some(Outcome::Failed(error))) = (is_complete, &progress.outcome) {
        return Action::Fail(error.clone());
    }
    match step {
        Step::Header(index) => {
            let Some(part) = progress.parts.get(index) else {
                return Action::Wait;
            };
            let content = Step::Content(index, 0);
            layout::part_header(fingerprint, &part.head)
                .map_or(Action::Go(content), |header| Action::Send(header, content))
        }
        Step::Content(index, position) => {
            let Some(part) = progress.parts.get(index) else {
                return Action::Wait;
            };
            let is_unified = part.head.kind == PartKind::Unified;
            // A unified image ends with its file, so the last byte must not go out before the fingerprint was checked.
            let held_back = u64::from(is_unified && !is_complete);
            let available = part.written.saturating_sub(held_back).saturating_sub(position);
            match (available, part.is_complete, is_complete) {
                (1.., _, _) => Action::Read(Arc::clone(&part.file), available),
                (0, true, _) => Action::Go(Step::Header(index + 1)),
                (0, false, true) if is_unified => Action::Finish,
                (0, false, true) => Action::Send(layout::trailer(fingerprint), Step::End),
                (0, false, false) => Action::Wait,
            }
        }
        Step::End => Action::Finish,
    }
}

impl Progressing {
    /// Waits until the progress has changed since it was looked at.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Idle(receiver) = self {
            let mut receiver = receiver.clone();
            let changed = async move { receiver.changed().await.is_ok().then_some(receiver) };
            *self = Self::Waiting(Box::pin(changed));
        }
        if let Self::Waiting(changed) = self {
            let receiver = ready!(changed.as_mut().poll(cx));
            *self = receiver.map_or(Self::Gone, Self::Idle);
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Following");
        debug
            .field("fingerprint", &self.fingerprint)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
