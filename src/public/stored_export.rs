//! Image downloads in Incus's protocol from the store.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use edge::response::{Reply, ReplyBody};
use edge::upstream::{Error, Upstream};
use http::HeaderMap;
use store::FillError;

use super::file_reply::{self, FileHead};
use super::image::Image;
use super::stored_body::{Origin, StoredBody};
use crate::image_store::{ImageStore, Source};
use crate::reply::HttpError;
use crate::state::State;

/// Distinguishes the exports of split images, which depend on more than the image: on how the store joins its files.
const LAYOUT: &str = "1";

/// Answers from the store, or from the fill of it. `None` if Incus must answer.
///
/// # Errors
/// If what Incus sends is not the image.
pub(crate) async fn export(
    store: &ImageStore,
    state: &State,
    upstream: &Rc<Upstream>,
    image: &Image,
    request: &HeaderMap,
) -> Result<Option<Reply>, HttpError> {
    let (head, download) = match store.source(&state.target, &image.fingerprint, image.size).await {
        Source::Stored(stored) => (stored.head(), From::Stored(stored)),
        Source::Filling(filling) => match filling.head().await {
            Ok(head) => (head, From::Filling(filling)),
            Err(FillError::Export(error)) => return Err(Error::Export(error.to_string()).into()),
            // Incus may have an answer for the client.
            Err(FillError::Disk(_) | FillError::Abandoned) => return Ok(None),
        },
        Source::Incus => return Ok(None),
    };
    let etag = match &head.content_disposition {
        Some(_) => format!("\"{}\"", image.fingerprint),
        None => format!("\"{}-{LAYOUT}\"", image.fingerprint),
    };
    let file = FileHead {
        content_type: &head.content_type,
        content_disposition: head.content_disposition.as_deref(),
        etag: &etag,
        last_modified: last_modified(image),
        length: head.length,
        is_complete: matches!(download, From::Stored(_)),
        cache_control: "no-cache",
    };
    Ok(Some(file_reply::reply(request, &file, |range| {
        let origin = origin(upstream, image, range.start);
        let download = match download {
            From::Stored(stored) => stored.export(range),
            From::Filling(filling) => filling.follow(),
        };
        ReplyBody::Streamed(Box::pin(StoredBody::new(download, origin)))
    })))
}

/// What the bytes come from.
enum From {
    Stored(store::Image),
    Filling(store::Filling),
}

fn origin(upstream: &Rc<Upstream>, image: &Image, start: u64) -> Option<Origin> {
    Some(Origin {
        upstream: Rc::clone(upstream),
        fingerprint: image.fingerprint.parse().ok()?,
        size: u64::try_from(image.size).ok()?,
        start,
    })
}

/// Returns when the image was uploaded.
pub(crate) fn last_modified(image: &Image) -> Option<SystemTime> {
    let seconds = u64::try_from(image.uploaded()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
