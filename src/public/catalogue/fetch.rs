//! What the catalogue asks of Incus.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use edge::upstream::{self, Upstream};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::events::Broken;
use crate::config::Visibility;
use crate::public::export::IMAGE_SIZE;
use crate::public::image::{DEFAULT_PROJECT, Image};
use crate::public::snapshot::{self, ServerView, Snapshot};
use crate::server_info::MAX_SERVER_INFO;

/// Timeout of a fetch of the list. Incus takes a millisecond or more per image that it lists; the upstream client detects a
/// hanging Incus earlier.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which a fetch of the list counts as late. The latest snapshot then answers, as while Incus is unavailable,
/// before waiting requests time out. If earlier fetches took long, the limit is higher.
pub(super) const LATE: Duration = Duration::from_secs(3);
/// Timeout of the list of projects. It takes Incus some microseconds per image.
const PROJECTS_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of the image list, in bytes. The list of 50,000 images is about 50 MB.
const MAX_SIZE: usize = 256 << 20;

/// A list that was fetched.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) snapshot: Snapshot,
    /// The snapshot contains every change made before.
    pub(super) begun: Instant,
    pub(super) took: Duration,
}

/// Fetches the whole list, and records a failure. `late` is the time after which it counts as failed, for now.
pub(super) async fn list(
    upstream: &Upstream,
    board: &Board,
    images: Visibility,
    late: Duration,
) -> Result<Listed, FetchError> {
    let begun = Instant::now();
    let usual = board.latest().map(|latest| latest.took * 2);
    let mut fetching = pin!(timeout(LIST_TIMEOUT, fetch_list(upstream, images)));
    // Without a previous snapshot, requests can only wait.
    let late = usual.map_or(LIST_TIMEOUT, |usual| usual.max(late));
    let fetched = match timeout(late, &mut fetching).await {
        Ok(fetched) => fetched,
        Err(_) => {
            board.failed(&FetchError::Timeout(late));
            fetching.await
        }
    };
    let fetched = fetched.unwrap_or(Err(FetchError::Timeout(LIST_TIMEOUT)));
    match fetched {
        Ok(snapshot) => {
            board.counts.succeeded.add(1);
            Ok(Listed {
                snapshot,
                begun,
                took: begun.elapsed(),
            })
        }
        Err(error) => {
            board.counts.failed.add(1);
            board.failed(&error);
            Err(error)
        }
    }
}

async fn fetch_list(upstream: &Upstream, images: Visibility) -> Result<Snapshot, FetchError> {
    let server = upstream.fetch("/1.0", MAX_SERVER_INFO).await?;
    let list = upstream.fetch("/1.0/images?recursion=1", MAX_SIZE).await?;
    Ok(Snapshot::parse(&server, &list, images)?)
}

/// Fetches an image. Returns `None` if it is not visible on the public port.
pub(super) async fn image(upstream: &Upstream, fingerprint: &str, images: Visibility) -> Result<Option<Image>, Broken> {
    let path = format!("/1.0/images/{fingerprint}");
    let Some(response) = upstream.fetch_if_found(&path, IMAGE_SIZE).await? else {
        return Ok(None);
    };
    let image = snapshot::parse_image(&response, images)?;
    // It becomes part of the snapshot under this name.
    Ok(image.filter(|image| image.fingerprint == fingerprint))
}

/// Fetches the response to `/1.0`.
pub(super) async fn server(upstream: &Upstream) -> Result<ServerView, Broken> {
    Ok(ServerView::parse(&upstream.fetch("/1.0", MAX_SERVER_INFO).await?)?)
}

/// Fingerprints of all images, by whether the default project has them, or another one.
///
/// Incus costs this a small part of listing the images.
#[derive(Debug, Default)]
pub(super) struct Projects {
    pub(super) here: HashSet<String>,
    pub(super) elsewhere: HashSet<String>,
}

#[derive(Deserialize)]
struct Sync {
    metadata: Vec<Project>,
}

#[derive(Deserialize)]
struct Project {
    name: String,
    #[serde(default)]
    used_by: Option<Vec<String>>,
}

impl Projects {
    /// Fetches the projects with the paths of their images.
    pub(super) async fn fetch(upstream: &Upstream) -> Result<Self, Broken> {
        let fetch = upstream.fetch("/1.0/projects?recursion=1", MAX_SIZE);
        let response = timeout(PROJECTS_TIMEOUT, fetch).await.map_err(|_| Broken::Silent)??;
        Ok(Self::parse(&response)?)
    }

    fn parse(response: &[u8]) -> serde_json::Result<Self> {
        let projects: Sync = serde_json::from_slice(response)?;
        let mut all = Self::default();
        for project in projects.metadata {
            let paths = project.used_by.iter().flatten();
            let images = paths.filter_map(|path| path.strip_prefix("/1.0/images/"));
            let images = images.map(|image| image.split('?').next().unwrap_or(image).to_owned());
            match project.name == DEFAULT_PROJECT {
                true => all.here.extend(images),
                false => all.elsewhere.extend(images),
            }
        }
        Ok(all)
    }
}

/// Why there is no list.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("the response is not an image list ({0}); check that upstream.url is the address of Incus")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("Incus took longer than {} s to list its images", .0.as_secs_f32())]
    Timeout(Duration),
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_found_in_the_paths_of_each_project() {
        let response = json!({ "metadata": [
            { "name": "default", "used_by": ["/1.0/images/aa", "/1.0/profiles/default", "/1.0/images/bb"] },
            { "name": "p2", "used_by": ["/1.0/images/bb?project=p2", "/1.0/instances/c?project=p2"] },
            { "name": "p3", "used_by": null },
        ]});
        let all = Projects::parse(response.to_string().as_bytes()).expect("a valid response");
        assert_eq!(all.here, HashSet::from(["aa".to_owned(), "bb".to_owned()]));
        assert_eq!(all.elsewhere, HashSet::from(["bb".to_owned()]));
    }
}
