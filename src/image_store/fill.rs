//! Reads images from Incus, on the main thread: a fill outlives the client that caused it, and the worker that serves the client.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use edge::upstream::{self, Upstream, UpstreamBody};
use http::StatusCode;
use http_body::Body;
use store::{Digest, Fill, FillWriter};
use tokio::sync::mpsc;

use super::Order;
use super::trouble::{Failure, Troubles};
use crate::public::export::{self, ExportedImage};

/// How much is written at once, in bytes. Each write is a switch to another thread.
const CHUNK: usize = 256 << 10;

/// Fills the store as ordered.
pub(super) async fn run(
    mut orders: mpsc::UnboundedReceiver<Order>,
    unverifiable: Arc<Mutex<HashSet<Digest>>>,
    troubles: Arc<Troubles>,
) {
    let mut upstream: Option<Rc<Upstream>> = None;
    while let Some(order) = orders.recv().await {
        let current = upstream.filter(|upstream| upstream.is_for(&order.target));
        let current = current.unwrap_or_else(|| Rc::new(Upstream::new(Arc::clone(&order.target))));
        upstream = Some(Rc::clone(&current));
        let (unverifiable, troubles) = (Arc::clone(&unverifiable), Arc::clone(&troubles));
        tokio::task::spawn_local(async move {
            let fingerprint = order.fill.fingerprint();
            let Err(failure) = fill(&current, order).await else {
                return;
            };
            if matches!(failure, Failure::Unverifiable) {
                let mut unverifiable = unverifiable.lock().unwrap_or_else(PoisonError::into_inner);
                unverifiable.insert(fingerprint);
            }
            troubles.failed(&fingerprint, &failure);
        });
    }
}

async fn fill(upstream: &Upstream, order: Order) -> Result<(), Failure> {
    let fill = order.fill;
    let unfollowed = fill.unfollowed();
    tokio::select! {
        // Dropping the fill leaves nothing on disk.
        () = unfollowed => Err(Failure::Unfollowed),
        transferred = transfer(upstream, fill) => {
            // The followers have all bytes a moment before the store has the image for good.
            transferred?.finish().await?;
            Ok(())
        }
    }
}

/// Writes everything that Incus sends.
async fn transfer(upstream: &Upstream, fill: Fill) -> Result<FillWriter, Failure> {
    let image = export::request(upstream, &fill.fingerprint().to_string()).await?;
    if image.is_unverifiable {
        return Err(Failure::Unverifiable);
    }
    if image.head.status != StatusCode::OK {
        return Err(upstream::Error::Status("an export".to_owned(), image.head.status).into());
    }
    let mut writer = fill.begin(&image.export_head())?;
    let ExportedImage { mut body, .. } = image;
    while let Some(chunk) = next_chunk(&mut body).await? {
        writer.write(chunk).await?;
    }
    Ok(writer)
}

/// Returns what has arrived, up to [`CHUNK`] bytes and one frame.
async fn next_chunk(body: &mut UpstreamBody) -> Result<Option<Bytes>, upstream::Error> {
    let mut chunk = BytesMut::new();
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                std::task::Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        chunk.extend_from_slice(&data);
                    }
                    if chunk.len() >= CHUNK {
                        break;
                    }
                }
                std::task::Poll::Ready(Some(Err(error))) => return std::task::Poll::Ready(Err(error)),
                std::task::Poll::Pending if chunk.is_empty() => return std::task::Poll::Pending,
                std::task::Poll::Pending | std::task::Poll::Ready(None) => break,
            }
        }
        std::task::Poll::Ready(Ok(()))
    })
    .await?;
    Ok((!chunk.is_empty()).then(|| chunk.freeze()))
}
