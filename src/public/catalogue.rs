//! The catalogue of published images, kept up to date.
//!
//! A refresher task fetches a [`Snapshot`] when a request needs a newer one than the latest. All requests that arrive
//! meanwhile wait for the same fetch. Without requests, nothing is fetched. While Incus is unavailable, the latest
//! snapshot answers, and the refresher retries by itself, so that the snapshot is never older than the outage.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use edge::counters::Counter;
use edge::generation::OldGenerations;
use edge::upstream::{self, Target, Upstream};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::snapshot::Snapshot;
use crate::config::{PublicConfig, Visibility};
use crate::server_info::MAX_SERVER_INFO;

/// Timeout of a fetch. Incus takes a millisecond or more per image that it lists; the upstream client detects a hanging
/// Incus earlier.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Time after which a fetch counts as late. The latest snapshot then answers, as while Incus is unavailable, before
/// waiting requests time out. If earlier fetches took long, the limit is higher.
const LATE: Duration = Duration::from_secs(3);
/// Maximum size of the image list, in bytes. The list of 50,000 images is about 50 MB.
const MAX_SIZE: usize = 256 << 20;
/// Fetches take at most one part in this many of Incus's time, even if clients keep requesting names that do not exist.
const SHARE_OF_INCUS: u32 = 5;
/// Minimum time between the starts of two fetches.
const MIN_GAP: Duration = Duration::from_millis(50);
/// Maximum time between the starts of two fetches while Incus is unavailable, whatever `public.max_age` allows.
const MAX_ABSENCE: Duration = Duration::from_secs(1);

/// There is no list of images that is new enough, and Incus gives none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// The published images, with a task that refreshes them.
#[derive(Debug)]
pub struct Catalogue {
    wanted: watch::Sender<Instant>,
    state: watch::Receiver<State>,
    target: Arc<Target>,
    images: Visibility,
    max_age: Duration,
    stale_if_error: Duration,
    fetches: Arc<Fetches>,
    old: Arc<OldGenerations>,
}

/// Counters of the fetches from Incus.
#[derive(Debug, Default)]
pub struct Fetches {
    /// Failed fetches.
    pub failed: Counter,
    /// Successful fetches.
    pub succeeded: Counter,
}

/// Age and size of the image list.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// Age of the latest list, and its number of images, if there is one.
    pub latest: Option<(Duration, usize)>,
    /// Whether the last fetch failed.
    pub is_failing: bool,
}

/// Result of the last fetches.
#[derive(Clone, Debug, Default)]
struct State {
    latest: Option<Fetched>,
    /// Whether the last fetch failed. Requests then do not wait for a newer snapshot.
    failed: bool,
}

#[derive(Clone, Debug)]
struct Fetched {
    snapshot: Arc<Snapshot>,
    /// Start of the fetch. The snapshot contains every change made before.
    begun: Instant,
    took: Duration,
}

impl Catalogue {
    /// Spawns the refresher on the current local task set. It ends when the catalogue is dropped. Inherits the snapshot
    /// of `last` if that has the same target and visibility.
    pub fn keep(config: &PublicConfig, target: Arc<Target>, last: Option<&Self>) -> Self {
        let inherited = last.filter(|last| Arc::ptr_eq(&last.target, &target) && last.images == config.images);
        let inherited = inherited.map(|last| last.state.borrow().clone());
        let (wanted, want) = watch::channel(Instant::now());
        let (publish, state) = watch::channel(inherited.unwrap_or_default());
        let fetches = last.map(|last| Arc::clone(&last.fetches)).unwrap_or_default();
        let old = last.map(|last| Arc::clone(&last.old)).unwrap_or_default();
        let refresher = Refresher {
            fetches: Arc::clone(&fetches),
            old: Arc::clone(&old),
            want,
            publish,
            target: Arc::clone(&target),
            images: config.images,
            max_age: config.max_age,
        };
        tokio::task::spawn_local(refresher.run());
        Self {
            wanted,
            state,
            target,
            images: config.images,
            max_age: config.max_age,
            stale_if_error: config.stale_if_error,
            fetches,
            old,
        }
    }

    /// Returns a snapshot no older than `public.max_age`. If Incus takes so long to list its images that this would
    /// keep it busy, returns the latest one.
    ///
    /// # Errors
    ///
    /// Fails if there is no snapshot, or only one older than `public.stale_if_error`.
    pub async fn current(&self) -> Result<Arc<Snapshot>, Unavailable> {
        let now = Instant::now();
        let moment = now.checked_sub(self.max_age).unwrap_or(now);
        match self.slow() {
            Some(latest) => {
                self.request_refresh(moment);
                Ok(latest)
            }
            None => self.wait_fresh(moment).await,
        }
    }

    /// Whether the latest snapshot is no older than `public.max_age`.
    pub fn is_fresh(&self) -> bool {
        let state = self.state.borrow();
        state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.begun.elapsed() <= self.max_age)
    }

    /// Returns the current freshness without a request to Incus.
    pub fn freshness(&self) -> Freshness {
        let state = self.state.borrow();
        let latest = state.latest.as_ref();
        Freshness {
            latest: latest.map(|latest| (latest.begun.elapsed(), latest.snapshot.number_of_images())),
            is_failing: state.failed,
        }
    }

    /// Counters of the fetches.
    pub fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// Which images are visible.
    pub fn images(&self) -> Visibility {
        self.images
    }

    /// Returns the latest snapshot if Incus is slow and the snapshot is as recent as its speed allows.
    fn slow(&self) -> Option<Arc<Snapshot>> {
        let state = self.state.borrow();
        let latest = state.latest.as_ref().filter(|_| !state.failed)?;
        let cycle = latest.took * (SHARE_OF_INCUS + 2);
        let is_slow = latest.took * SHARE_OF_INCUS > self.max_age;
        (is_slow && latest.begun.elapsed() <= self.max_age + cycle).then(|| Arc::clone(&latest.snapshot))
    }

    /// Returns the snapshots as they come.
    pub fn latest(&self) -> Latest {
        Latest {
            state: self.state.clone(),
            last: Weak::new(),
        }
    }

    fn request_refresh(&self, moment: Instant) {
        self.wanted.send_if_modified(|wanted| {
            let later = moment > *wanted;
            *wanted = moment.max(*wanted);
            later
        });
    }

    /// Returns a snapshot that satisfies `is_there`, or else one whose fetch began after the call, so that an image is
    /// found as soon as it is published.
    ///
    /// # Errors
    ///
    /// Fails if Incus is unavailable and the latest snapshot does not satisfy
    /// `is_there`.
    pub async fn get_or_refresh(&self, is_there: impl Fn(&Snapshot) -> bool) -> Result<Arc<Snapshot>, Unavailable> {
        let now = Instant::now();
        let current = self.current().await?;
        if is_there(&current) {
            return Ok(current);
        }
        if self.slow().is_some() {
            self.request_refresh(now);
            return Ok(current);
        }
        let fresh = self.wait_fresh(now).await?;
        // While Incus is unavailable, a missing name may still exist.
        let is_unavailable = self.state.borrow().failed;
        if is_unavailable && !is_there(&fresh) {
            Err(Unavailable)
        } else {
            Ok(fresh)
        }
    }

    async fn wait_fresh(&self, moment: Instant) -> Result<Arc<Snapshot>, Unavailable> {
        let mut state = self.state.clone();
        if !state.borrow().satisfies(moment) {
            self.request_refresh(moment);
            state
                .wait_for(|state| state.satisfies(moment))
                .await
                .map_err(|_| Unavailable)?;
        }
        let latest = state.borrow().latest.clone().ok_or(Unavailable)?;
        if latest.begun.elapsed() > self.stale_if_error.max(self.max_age) {
            return Err(Unavailable);
        }
        Ok(latest.snapshot)
    }
}

/// The latest snapshots, one after the other. Waiting for one causes no request to Incus.
#[derive(Debug)]
pub struct Latest {
    state: watch::Receiver<State>,
    last: Weak<Snapshot>,
}

impl Latest {
    /// Returns the latest snapshot, once; then waits for the next one. `None` if the catalogue has been dropped.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            let latest = self.state.borrow_and_update().latest.clone();
            let latest = latest.map(|latest| latest.snapshot);
            if let Some(snapshot) = latest.filter(|snapshot| !Weak::ptr_eq(&self.last, &Arc::downgrade(snapshot))) {
                self.last = Arc::downgrade(&snapshot);
                return Some(snapshot);
            }
            self.state.changed().await.ok()?;
        }
    }
}

impl State {
    /// Whether a request can be answered without waiting: the snapshot is recent enough, or Incus is unavailable.
    fn satisfies(&self, moment: Instant) -> bool {
        self.failed || self.latest.as_ref().is_some_and(|latest| latest.begun >= moment)
    }
}

struct Refresher {
    fetches: Arc<Fetches>,
    old: Arc<OldGenerations>,
    want: watch::Receiver<Instant>,
    publish: watch::Sender<State>,
    target: Arc<Target>,
    images: Visibility,
    max_age: Duration,
}

impl Refresher {
    async fn run(mut self) {
        let upstream = Upstream::new(Arc::clone(&self.target));
        loop {
            let begun = Instant::now();
            let fetched = self.fetch(&upstream).await;
            let took = begun.elapsed();
            let gap = (took * SHARE_OF_INCUS).max(MIN_GAP);
            let again = match fetched {
                Ok(snapshot) => {
                    self.fetches.succeeded.add(1);
                    self.succeeded(snapshot, begun, took);
                    sleep_until(begun + gap).await;
                    self.want.wait_for(|wanted| *wanted > begun).await.is_ok()
                }
                Err(error) => {
                    self.fetches.failed.add(1);
                    self.failed(&error);
                    sleep_until(begun + self.max_age.clamp(MIN_GAP, MAX_ABSENCE)).await;
                    !self.publish.is_closed()
                }
            };
            if !again {
                return;
            }
        }
    }

    async fn fetch(&self, upstream: &Upstream) -> Result<Snapshot, FetchError> {
        let usual = self.publish.borrow().latest.as_ref().map(|latest| latest.took * 2);
        let mut fetching = pin!(timeout(FETCH_TIMEOUT, fetch(upstream, self.images)));
        // Without a previous snapshot, requests can only wait.
        let late = usual.map_or(FETCH_TIMEOUT, |usual| usual.max(LATE));
        let fetched = match timeout(late, &mut fetching).await {
            Ok(fetched) => fetched,
            Err(_) => {
                self.failed(&FetchError::Timeout(late));
                fetching.await
            }
        };
        fetched.unwrap_or(Err(FetchError::Timeout(FETCH_TIMEOUT)))
    }

    fn succeeded(&self, snapshot: Snapshot, begun: Instant, took: Duration) {
        let is_trusted = snapshot.is_trusted;
        let last = self.publish.borrow().latest.clone();
        let latest = Fetched {
            // If nothing has changed, keep the old snapshot: this saves compression and frees the new one's memory
            // immediately.
            snapshot: match last {
                Some(last) if last.snapshot.is_same(&snapshot) => last.snapshot,
                _ => Arc::new(snapshot.compressed()),
            },
            begun,
            took,
        };
        let was = self.publish.send_replace(State {
            latest: Some(latest),
            failed: false,
        });
        self.replaced(was.latest.as_ref());
        if was.failed {
            tracing::info!("the image list is up to date again");
        }
        if !is_trusted && was.latest.is_none_or(|was| was.snapshot.is_trusted) {
            tracing::warn!(
                "Incus does not trust upstream.client_certificate, so administrators have no access through this gateway; run `incus config trust add-certificate` with that file"
            );
        }
    }

    /// Adds the replaced snapshot to the old generations: its readers may still hold it.
    fn replaced(&self, last: Option<&Fetched>) {
        let latest = self.publish.borrow().latest.clone();
        if let (Some(last), Some(latest)) = (last, latest)
            && !Arc::ptr_eq(&last.snapshot, &latest.snapshot)
        {
            self.old.add(&last.snapshot.generation);
        }
    }

    fn failed(&self, error: &FetchError) {
        self.publish.send_modify(|state| {
            if !state.failed {
                let meanwhile = match state.latest {
                    Some(_) => "the public port keeps serving the last image list",
                    None => "the public port serves no images",
                };
                match error {
                    // The upstream client has already logged the reason.
                    FetchError::Upstream(error) if !error.is_of_an_answer() => tracing::warn!("{meanwhile}"),
                    _ => tracing::warn!("{error}; {meanwhile}"),
                }
            }
            state.failed = true;
        });
    }
}

async fn fetch(upstream: &Upstream, images: Visibility) -> Result<Snapshot, FetchError> {
    let server = upstream.fetch("/1.0", MAX_SERVER_INFO).await?;
    let list = upstream.fetch("/1.0/images?recursion=1", MAX_SIZE).await?;
    Ok(Snapshot::parse(&server, &list, images)?)
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("the response is not an image list ({0}); check that upstream.url is the address of Incus")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("Incus took longer than {} s to list its images", .0.as_secs_f32())]
    Timeout(Duration),
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}
