//! Keeps the documents up to date: with each change of the catalogue, and with each image whose files become known.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use edge::upstream::Target;
use store::{Digest, Part};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::documents::{Documents, KnownFiles};
use crate::image_store::{ImageStore, NotFetched};
use crate::public::catalogue::{Catalogue, Latest, Unavailable};
use crate::public::snapshot::Snapshot;

/// Time after which an image is asked for again that could not be fetched.
const RETRY: Duration = Duration::from_mins(1);
/// Time between a failure and the fetch of another image: Incus or the disk may be the cause.
const PAUSE: Duration = Duration::from_secs(1);
/// While images become known one after the other, making the documents takes at most one part in this many of the time.
const SHARE: u32 = 10;

/// The published images as simplestreams.
#[derive(Debug)]
pub struct Publication {
    published: watch::Receiver<Option<Arc<Documents>>>,
    store: ImageStore,
    cache_control: String,
}

impl Publication {
    /// Spawns the task that makes the documents on the current local task set. It ends with the catalogue.
    pub fn keep(store: ImageStore, catalogue: &Catalogue, target: Arc<Target>, file_max_age: Duration) -> Self {
        let (publish, published) = watch::channel(None);
        let publisher = Publisher {
            known: store
                .files()
                .entries()
                .iter()
                .map(|entry| (entry.fingerprint, entry.parts.clone().into()))
                .collect(),
            store: store.clone(),
            target,
            failed: HashMap::new(),
            resume: Instant::now(),
            fetching: None,
            publish,
        };
        tokio::task::spawn_local(publisher.run(catalogue.latest()));
        Self {
            published,
            store,
            cache_control: match file_max_age.as_secs() {
                0 => "no-cache".to_owned(),
                seconds => format!("public, max-age={seconds}"),
            },
        }
    }

    /// Returns documents that are as current as the catalogue.
    ///
    /// # Errors
    /// Fails if the catalogue is unavailable.
    pub(super) async fn documents(&self, catalogue: &Catalogue) -> Result<Arc<Documents>, Unavailable> {
        let snapshot = catalogue.current().await?;
        let is_current = |documents: &Option<Arc<Documents>>| {
            let documents = documents.as_ref();
            documents.is_some_and(|documents| documents.snapshot.number >= snapshot.number)
        };
        let mut published = self.published.clone();
        let published = published.wait_for(is_current).await.map_err(|_| Unavailable)?;
        published.clone().ok_or(Unavailable)
    }

    /// Returns the latest documents, however old the catalogue is.
    pub fn latest(&self) -> Option<Arc<Documents>> {
        self.published.borrow().clone()
    }

    /// The store with the files.
    pub(super) fn store(&self) -> &ImageStore {
        &self.store
    }

    /// `Cache-Control` of the files.
    pub(super) fn cache_control(&self) -> &str {
        &self.cache_control
    }
}

struct Publisher {
    store: ImageStore,
    target: Arc<Target>,
    known: KnownFiles,
    /// When and why an image could not be fetched.
    failed: HashMap<Digest, Failure>,
    /// No fetch begins before.
    resume: Instant,
    /// The image that is being fetched.
    fetching: Option<(Digest, Fetching)>,
    publish: watch::Sender<Option<Arc<Documents>>>,
}

/// An image that could not be fetched.
struct Failure {
    at: Instant,
    problem: String,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Arc<[Part]>, NotFetched>>>>;

impl Publisher {
    async fn run(mut self, mut latest: Latest) {
        let mut next = latest.next().await;
        while let Some(snapshot) = next {
            self.forget_others(&snapshot);
            next = self.keep(snapshot, &mut latest).await;
        }
    }

    /// Publishes a snapshot, again and again while files become known, until there is a newer one.
    async fn keep(&mut self, snapshot: Arc<Snapshot>, latest: &mut Latest) -> Option<Arc<Snapshot>> {
        loop {
            let begun = Instant::now();
            self.publish(&snapshot);
            let next = Instant::now() + begun.elapsed() * SHARE;
            tokio::select! {
                newer = latest.next() => return newer,
                () = self.learn_until(next, &snapshot) => {}
            }
        }
    }

    /// Fetches images, at least one and until `next`, as long as there are unknown ones.
    async fn learn_until(&mut self, next: Instant, snapshot: &Snapshot) {
        let mut has_learned = false;
        loop {
            self.fetching = self.fetching.take().or_else(|| self.next_fetch(snapshot));
            let Some((fingerprint, fetching)) = &mut self.fetching else {
                match has_learned {
                    true => return,
                    false => self.wait_for_retry().await,
                }
                continue;
            };
            let fingerprint = *fingerprint;
            tokio::select! {
                fetched = fetching => {
                    self.fetching = None;
                    has_learned = true;
                    match fetched {
                        Ok(parts) => drop(self.known.insert(fingerprint, parts)),
                        Err(error) => {
                            let failure = Failure { at: Instant::now(), problem: error.to_string() };
                            self.resume = failure.at + PAUSE;
                            self.failed.insert(fingerprint, failure);
                        }
                    }
                }
                () = sleep_until(next), if has_learned => return,
            }
        }
    }

    /// Waits until an image may be fetched again that could not be.
    async fn wait_for_retry(&self) {
        match self.failed.values().map(|failure| failure.at).min() {
            Some(first) => sleep_until(first + RETRY).await,
            None => std::future::pending().await,
        }
    }

    /// Begins to fetch the newest image whose files are not known.
    fn next_fetch(&mut self, snapshot: &Snapshot) -> Option<(Digest, Fetching)> {
        self.failed.retain(|_, failure| failure.at.elapsed() < RETRY);
        let unknown = snapshot.iter().filter_map(|image| {
            let fingerprint: Digest = image.fingerprint.parse().ok()?;
            let is_unknown = !self.known.contains_key(&fingerprint) && !self.failed.contains_key(&fingerprint);
            is_unknown.then_some((image.uploaded(), fingerprint, image.size))
        });
        let (_, fingerprint, size) = unknown.max_by_key(|(uploaded, ..)| *uploaded)?;
        let (store, target) = (self.store.clone(), Arc::clone(&self.target));
        let resume = self.resume;
        let fetching = async move {
            sleep_until(resume).await;
            store.fetch(&target, &fingerprint.to_string(), size).await
        };
        Some((fingerprint, Box::pin(fetching)))
    }

    /// Forgets the images that are no longer published.
    fn forget_others(&mut self, snapshot: &Snapshot) {
        let images = snapshot.iter().filter_map(|image| image.fingerprint.parse().ok());
        let published: HashSet<Digest> = images.collect();
        self.known.retain(|fingerprint, _| published.contains(fingerprint));
        self.failed.retain(|fingerprint, _| published.contains(fingerprint));
        self.fetching = self
            .fetching
            .take()
            .filter(|(fingerprint, _)| published.contains(fingerprint));
    }

    fn publish(&self, snapshot: &Arc<Snapshot>) {
        let problem = |fingerprint: &Digest| self.failed.get(fingerprint).map(|failure| failure.problem.clone());
        match Documents::build(Arc::clone(snapshot), &self.known, problem) {
            Ok(documents) => drop(self.publish.send_replace(Some(Arc::new(documents)))),
            Err(error) => tracing::error!("cannot write the images as simplestreams: {error}"),
        }
    }
}
