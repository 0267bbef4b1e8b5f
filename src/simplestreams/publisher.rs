//! Keeps the documents up to date: with each change of the catalogue, and with each image whose files become known.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use edge::generation::OldGenerations;
use edge::upstream::Target;
use store::{Digest, Part};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::documents::{Documents, Known, KnownFiles};
use crate::image_store::{ImageStore, NotFetched};
use crate::public::catalogue::{Catalogue, Latest, Unavailable};
use crate::public::snapshot::Snapshot;

/// Time after which an image is asked for again that could not be fetched. It doubles with each failure.
const RETRY: Duration = Duration::from_mins(1);
/// Maximum of that time.
const MAX_RETRY: Duration = Duration::from_hours(1);
/// Time between a failure and the fetch of another image: Incus or the disk may be the cause. It doubles with each failure, up
/// to [`RETRY`].
const PAUSE: Duration = Duration::from_secs(1);
/// After documents were made, that takes this many times as long passes before the next ones are made.
const SHARE: u32 = 10;
/// Maximum of that time: clients wait for the documents.
const MAX_GAP: Duration = Duration::from_secs(1);
/// Time without a change after which large documents are compressed. It takes longer than to make them.
const QUIET: Duration = Duration::from_secs(1);

/// Time for which the documents are held back for a new image whose files are not known yet. Clients keep what they get: a daemon
/// for an hour.
const GRACE: Duration = Duration::from_secs(3);

/// The published images as simplestreams.
#[derive(Debug)]
pub struct Publication {
    published: watch::Receiver<Option<Arc<Documents>>>,
    store: ImageStore,
    cache_control: String,
    old: Arc<OldGenerations>,
}

impl Publication {
    /// Spawns the task that makes the documents on the current local task set. It ends with the catalogue. `last` is the
    /// publication that this one replaces.
    pub fn keep(
        store: ImageStore,
        catalogue: &Catalogue,
        target: Arc<Target>,
        file_max_age: Duration,
        last: Option<&Self>,
    ) -> Self {
        let old = last.map(|last| Arc::clone(&last.old)).unwrap_or_default();
        if let Some(documents) = last.and_then(Self::latest) {
            old.add(&documents.generation);
        }
        let (publish, published) = watch::channel(None);
        let entries = store.files().entries();
        let publisher = Publisher {
            known: Arc::new(
                entries
                    .iter()
                    .map(|entry| (entry.fingerprint, Known::Files(entry.parts.clone().into())))
                    .collect(),
            ),
            store: store.clone(),
            target,
            queue: Vec::new(),
            failed: HashMap::new(),
            found: HashMap::new(),
            resume: Instant::now(),
            pause: PAUSE,
            fetching: None,
            publish,
            old: Arc::clone(&old),
        };
        tokio::task::spawn_local(publisher.run(catalogue.latest()));
        Self {
            published,
            store,
            cache_control: match file_max_age.as_secs() {
                0 => "no-cache".to_owned(),
                seconds => format!("public, max-age={seconds}"),
            },
            old,
        }
    }

    /// Returns documents that are as current as this snapshot, and for a moment waits for new images to be among them.
    ///
    /// # Errors
    /// Fails if the gateway has other ones meanwhile.
    pub(super) async fn documents(&self, snapshot: &Snapshot) -> Result<Arc<Documents>, Unavailable> {
        let is_current = |documents: &Option<Arc<Documents>>| {
            let documents = documents.as_ref();
            documents.is_some_and(|documents| documents.snapshot.number >= snapshot.number)
        };
        let mut published = self.published.clone();
        loop {
            let documents = published.wait_for(is_current).await.map_err(|_| Unavailable)?.clone();
            let documents = documents.ok_or(Unavailable)?;
            if documents.complete_by <= Instant::now() {
                return Ok(documents);
            }
            tokio::select! {
                changed = published.changed() => changed.map_err(|_| Unavailable)?,
                () = sleep_until(documents.complete_by) => return Ok(documents),
            }
        }
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
    known: Arc<KnownFiles>,
    /// The images to fetch, the next one last.
    queue: Vec<(Digest, i64)>,
    failed: HashMap<Digest, Failure>,
    /// When the images were found that have been neither fetched nor failed yet.
    found: HashMap<Digest, Instant>,
    /// No fetch begins before.
    resume: Instant,
    /// Time to the next fetch if the current one fails.
    pause: Duration,
    /// The image that is being fetched.
    fetching: Option<(Digest, Fetching)>,
    publish: watch::Sender<Option<Arc<Documents>>>,
    old: Arc<OldGenerations>,
}

/// An image that could not be fetched.
struct Failure {
    problem: String,
    /// Time between its fetches.
    interval: Duration,
    next: Instant,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Arc<[Part]>, NotFetched>>>>;

impl Publisher {
    async fn run(mut self, mut latest: Latest) {
        let Some(mut snapshot) = latest.next().await else {
            return;
        };
        self.follow(&snapshot);
        let mut is_outdated = true;
        let mut next_build = Instant::now();
        loop {
            tokio::select! {
                newer = latest.next() => {
                    let Some(newer) = newer else {
                        return;
                    };
                    snapshot = newer;
                    self.follow(&snapshot);
                    is_outdated = true;
                }
                () = self.learn(&snapshot) => is_outdated = true,
                () = sleep_until(next_build), if is_outdated => {
                    is_outdated = false;
                    let begun = Instant::now();
                    self.publish(&snapshot).await;
                    next_build = Instant::now() + (begun.elapsed() * SHARE).min(MAX_GAP);
                }
                () = sleep_until(next_build + QUIET), if !is_outdated && !self.is_compressed() => self.compress().await,
            }
        }
    }

    /// Forgets the images that are no longer published, and queues those whose files are not known.
    fn follow(&mut self, snapshot: &Snapshot) {
        let images = snapshot.iter().filter_map(|image| image.fingerprint.parse().ok());
        let published: HashSet<Digest> = images.collect();
        Arc::make_mut(&mut self.known).retain(|fingerprint, _| published.contains(fingerprint));
        self.failed.retain(|fingerprint, _| published.contains(fingerprint));
        self.found.retain(|fingerprint, _| published.contains(fingerprint));
        let now = Instant::now();
        for fingerprint in published.iter() {
            if !self.known.contains_key(fingerprint) && !self.failed.contains_key(fingerprint) {
                self.found.entry(*fingerprint).or_insert(now);
            }
        }
        self.fetching = self
            .fetching
            .take()
            .filter(|(fingerprint, _)| published.contains(fingerprint));
        // Incus has just responded.
        self.pause = PAUSE;
        self.resume = self.resume.min(Instant::now() + PAUSE);
        self.enqueue(snapshot);
    }

    /// Queues the images whose files are not known, the newest one as the next one.
    fn enqueue(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let is_due = |fingerprint: &Digest| self.failed.get(fingerprint).is_none_or(|failure| failure.next <= now);
        let current = self.fetching.as_ref().map(|(fingerprint, _)| *fingerprint);
        let mut unknown: Vec<_> = snapshot
            .iter()
            .filter_map(|image| Some((image.uploaded(), image.fingerprint.parse().ok()?, image.size)))
            .filter(|(_, fingerprint, _)| !self.known.contains_key(fingerprint))
            .filter(|(_, fingerprint, _)| is_due(fingerprint) && current != Some(*fingerprint))
            .collect();
        unknown.sort_by_key(|(uploaded, ..)| *uploaded);
        self.queue = unknown
            .into_iter()
            .map(|(_, fingerprint, size)| (fingerprint, size))
            .collect();
    }

    /// Waits until the files of another image are known, or cannot be fetched. May be cancelled at any time.
    async fn learn(&mut self, snapshot: &Snapshot) {
        loop {
            self.fetching = self.fetching.take().or_else(|| self.next_fetch());
            let Some((fingerprint, fetching)) = &mut self.fetching else {
                self.wait_for_retry().await;
                self.enqueue(snapshot);
                continue;
            };
            let fingerprint = *fingerprint;
            let fetched = fetching.await;
            self.fetching = None;
            return self.learned(fingerprint, fetched);
        }
    }

    fn learned(&mut self, fingerprint: Digest, fetched: Result<Arc<[Part]>, NotFetched>) {
        self.found.remove(&fingerprint);
        let known = match fetched {
            Ok(parts) => Known::Files(parts),
            Err(NotFetched::Unverifiable) => Known::Oci,
            Err(error) => {
                let now = Instant::now();
                self.resume = now + self.pause;
                self.pause = (self.pause * 2).min(RETRY);
                let last = self.failed.get(&fingerprint);
                let interval = last.map_or(RETRY, |last| (last.interval * 2).min(MAX_RETRY));
                let failure = Failure {
                    problem: error.to_string(),
                    interval,
                    next: now + interval,
                };
                self.failed.insert(fingerprint, failure);
                return;
            }
        };
        self.pause = PAUSE;
        self.failed.remove(&fingerprint);
        Arc::make_mut(&mut self.known).insert(fingerprint, known);
    }

    /// Waits until an image may be fetched again that could not be.
    async fn wait_for_retry(&self) {
        match self.failed.values().map(|failure| failure.next).min() {
            Some(first) => sleep_until(first).await,
            None => std::future::pending().await,
        }
    }

    fn next_fetch(&mut self) -> Option<(Digest, Fetching)> {
        let (fingerprint, size) = self.queue.pop()?;
        let (store, target) = (self.store.clone(), Arc::clone(&self.target));
        let resume = self.resume;
        let fetching = async move {
            sleep_until(resume).await;
            store.fetch(&target, &fingerprint.to_string(), size).await
        };
        Some((fingerprint, Box::pin(fetching)))
    }

    /// Makes the documents, on another thread: those of thousands of images take a while.
    async fn publish(&self, snapshot: &Arc<Snapshot>) {
        let (snapshot, known) = (Arc::clone(snapshot), Arc::clone(&self.known));
        let failed = self.failed.iter();
        let problems = failed
            .map(|(fingerprint, failure)| (*fingerprint, failure.problem.clone()))
            .collect();
        let complete_by = self
            .found
            .values()
            .max()
            .map_or_else(Instant::now, |found| *found + GRACE);
        match spawn_blocking(move || Documents::build(snapshot, &known, &problems, complete_by)).await {
            Ok(Ok(documents)) => {
                if let Some(last) = self.publish.send_replace(Some(Arc::new(documents))) {
                    self.old.add(&last.generation);
                }
            }
            Ok(Err(error)) => tracing::error!("cannot write the images as simplestreams: {error}"),
            // The process ends.
            Err(_) => {}
        }
    }

    fn is_compressed(&self) -> bool {
        self.publish
            .borrow()
            .as_ref()
            .is_none_or(|documents| documents.is_compressed())
    }

    async fn compress(&self) {
        if let Some(documents) = self.publish.borrow().clone() {
            // It fails when the process ends.
            let _ = spawn_blocking(move || documents.compress()).await;
        }
    }
}
