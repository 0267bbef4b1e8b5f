//! Removes the files of images that are no longer published, and verifies the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use store::Digest;

use super::ImageStore;
use crate::public::catalogue::Latest;
use crate::public::snapshot::Snapshot;

/// How often all files are compared with their hashes. The file system shows when a file is changed, but a disk may lose bits.
const VERIFY_INTERVAL: Duration = Duration::from_hours(24);

/// Verifies all images from time to time.
pub(super) async fn verify(store: ImageStore) {
    loop {
        tokio::time::sleep(VERIFY_INTERVAL).await;
        for error in store.files().scrub().await {
            store.troubles.damaged(&error);
        }
    }
}

/// Removes what is no longer published from the store, as long as the catalogue exists. Nothing is removed before there is a list
/// of the published images.
pub(super) async fn run(store: ImageStore, mut latest: Latest) {
    let mut known = HashSet::new();
    while let Some(snapshot) = latest.next().await {
        known.extend(store.files().entries().iter().map(|entry| entry.fingerprint));
        known.extend(published(&snapshot));
        let published: HashSet<Digest> = published(&snapshot).collect();
        for fingerprint in known.extract_if(|fingerprint| !published.contains(fingerprint)) {
            if store.remove(&fingerprint) {
                tracing::debug!(%fingerprint, "removed the files of an image that is no longer published");
            }
        }
    }
}

fn published(snapshot: &Arc<Snapshot>) -> impl Iterator<Item = Digest> {
    snapshot.iter().filter_map(|image| image.fingerprint.parse().ok())
}
