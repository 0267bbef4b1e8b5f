//! The body of a download from the store. If the disk fails in the middle, Incus sends the rest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use edge::upstream::yield_budget::YieldBudget;
use edge::upstream::{Error, Upstream, UpstreamBody};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use store::{Digest, Download, DownloadError, FillError, Rewrite};

use super::export;

/// Bytes of an image, from the store as long as that works.
pub(crate) struct StoredBody {
    from: From,
    /// Bytes that are left, if that is known.
    left: Option<u64>,
    budget: YieldBudget,
}

/// Which image a download is of, to go on with it from Incus.
pub(crate) struct Origin {
    pub(crate) upstream: Rc<Upstream>,
    pub(crate) fingerprint: Digest,
    /// What Incus says the image has, in bytes.
    pub(crate) size: u64,
    /// Where in the export the download begins.
    pub(crate) start: u64,
}

enum From {
    Store(Download, Option<Origin>),
    Asking(Asking),
    Incus(Box<Rest>),
    Nowhere,
}

type Asking = Pin<Box<dyn Future<Output = Result<Rest, Error>>>>;

/// The rest of a download, from Incus.
struct Rest {
    body: Box<UpstreamBody>,
    /// `None` at the end.
    rewrite: Option<Rewrite>,
    ready: VecDeque<Bytes>,
}

impl StoredBody {
    /// Sends a download. With an `origin`, Incus sends the rest if the disk fails.
    pub(crate) fn new(download: Download, origin: Option<Origin>) -> Self {
        Self {
            left: download.remaining(),
            from: From::Store(download, origin),
            budget: YieldBudget::default(),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match &mut self.from {
                From::Store(download, origin) => match ready!(download.poll_next(cx)) {
                    Some(Err(error)) => {
                        let origin = origin.take();
                        match go_on(error, origin, download.position()) {
                            Ok(asking) => self.from = From::Asking(asking),
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    }
                    Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                    None => return Poll::Ready(None),
                },
                From::Asking(asking) => match ready!(asking.as_mut().poll(cx)) {
                    Ok(rest) => self.from = From::Incus(Box::new(rest)),
                    Err(error) => {
                        self.from = From::Nowhere;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                From::Incus(rest) => return rest.poll_bytes(cx),
                From::Nowhere => return Poll::Ready(None),
            }
        }
    }
}

/// Decides whether Incus can send the rest. It cannot if Incus itself was the cause.
fn go_on(error: DownloadError, origin: Option<Origin>, position: u64) -> Result<Asking, Error> {
    let is_of_the_disk = match &error {
        // What the client has may be wrong.
        DownloadError::Read(error) if error.is_change() => false,
        DownloadError::Read(_) | DownloadError::Fill(FillError::Disk(_)) => true,
        DownloadError::Fill(FillError::Export(_) | FillError::Abandoned) => false,
    };
    let Some(origin) = origin.filter(|_| is_of_the_disk) else {
        return Err(Error::Export(error.to_string()));
    };
    tracing::debug!(fingerprint = %origin.fingerprint, "{error}; Incus sends the rest");
    Ok(Box::pin(rest(origin, position)))
}

async fn rest(origin: Origin, position: u64) -> Result<Rest, Error> {
    let Origin {
        upstream,
        fingerprint,
        size,
        start,
    } = origin;
    let image = export::request(&upstream, &fingerprint.to_string()).await?;
    if image.head.status != StatusCode::OK {
        return Err(Error::Status("an export".to_owned(), image.head.status));
    }
    let rewrite = Rewrite::new(fingerprint, size, &image.export_head(), start + position);
    Ok(Rest {
        rewrite: Some(rewrite.map_err(|error| Error::Export(error.to_string()))?),
        body: image.body,
        ready: VecDeque::new(),
    })
}

impl Rest {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let wrong = |error: store::BadExport| Error::Export(error.to_string());
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            let Some(rewrite) = &mut self.rewrite else {
                return Poll::Ready(None);
            };
            let bytes = match ready!(Pin::new(&mut *self.body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => rewrite.push(frame.into_data().unwrap_or_default()),
                None => match self.rewrite.take() {
                    Some(rewrite) => rewrite.finish(),
                    None => Ok(Vec::new()),
                },
            };
            match bytes {
                Ok(bytes) => self.ready.extend(bytes),
                Err(error) => return Poll::Ready(Some(Err(wrong(error)))),
            }
        }
    }
}

impl Body for StoredBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        let mut budget = std::mem::take(&mut this.budget);
        let polled = budget.poll(cx, |cx| this.poll_bytes(cx).map_ok(Frame::data));
        this.budget = budget;
        let Some(left) = &mut this.left else {
            return polled;
        };
        // Incus sends everything up to the end, of which a range is only a part.
        let polled = polled.map_ok(|frame| {
            let mut bytes = frame.into_data().unwrap_or_default();
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            Frame::data(bytes)
        });
        match polled {
            // The length was promised. A shorter body must not look complete.
            Poll::Ready(None) => {
                this.from = From::Nowhere;
                this.left = Some(0);
                Poll::Ready(Some(Err(Error::Unusable)))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
