//! What a stranger may know, kept fresh.
//!
//! A keeper task fetches a [`Snapshot`] when somebody needs one newer than the last; everybody who asks meanwhile waits
//! for the same fetch. Nobody asks: nothing is fetched. While Incus is away the last snapshot answers, and the keeper
//! tries again by itself, so that it is never older than Incus's absence.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::generation::OldGenerations;
use super::snapshot::Snapshot;
use crate::config::{PublicConfig, Visibility};
use crate::counters::Counter;
use crate::upstream::{self, Target, Upstream};

/// Incus takes a millisecond or more for each image that it lists. That it hangs, the upstream client finds out sooner.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// From here on a list is late, and the last one answers, as while Incus is away: before those who wait are sent away. It is
/// later where Incus is known to take long.
const LATE: Duration = Duration::from_secs(3);
/// The list of 50,000 images is some 50 MB.
const MAX_SIZE: usize = 256 << 20;
/// Strangers who ask for names that do not exist may keep Incus busy for one part in this many.
const SHARE_OF_INCUS: u32 = 5;
/// The shortest time from the start of a fetch to the start of the next one.
const MIN_GAP: Duration = Duration::from_millis(50);
/// The longest one while Incus is away, however old the list may be that strangers get.
const MAX_ABSENCE: Duration = Duration::from_secs(1);

/// There is no list of images that is new enough, and Incus gives none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// The published images, for anybody to ask.
#[derive(Debug)]
pub struct Catalogue {
    wanted: watch::Sender<Instant>,
    state: watch::Receiver<State>,
    target: Arc<Target>,
    images: Visibility,
    refresh: Duration,
    stale: Duration,
    fetches: Arc<Fetches>,
    old: Arc<OldGenerations>,
}

/// How often Incus was asked for its images.
#[derive(Debug, Default)]
pub struct Fetches {
    /// In vain.
    pub failed: Counter,
    /// With success.
    pub succeeded: Counter,
}

/// What can be said of the list of images, but for the images.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// How old the latest list is, and how many images it has, if there is one.
    pub latest: Option<(Duration, usize)>,
    /// Whether the last attempt to have a newer one failed.
    pub is_failing: bool,
}

/// What the last fetches brought.
#[derive(Clone, Debug, Default)]
struct State {
    latest: Option<Fetched>,
    /// Whether the last one failed: then Incus is known to be away, and there is nothing to wait for.
    failed: bool,
}

#[derive(Clone, Debug)]
struct Fetched {
    snapshot: Arc<Snapshot>,
    /// When it was asked for: it shows every change made before.
    begun: Instant,
    took: Duration,
}

impl Catalogue {
    /// Spawns the keeper on the current runtime. It ends when the catalogue is dropped.
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
            refresh: config.max_age,
        };
        tokio::task::spawn_local(refresher.run());
        Self {
            wanted,
            state,
            target,
            images: config.images,
            refresh: config.max_age,
            stale: config.stale_if_error,
            fetches,
            old,
        }
    }

    /// A snapshot no older than `public.max_age`; or the latest, where Incus takes so long to list its images that to
    /// keep up with that would keep it busy.
    pub async fn current(&self) -> Result<Arc<Snapshot>, Unavailable> {
        let now = Instant::now();
        let moment = now.checked_sub(self.refresh).unwrap_or(now);
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
            .is_some_and(|latest| latest.begun.elapsed() <= self.refresh)
    }

    /// How it is at this moment, without asking Incus.
    pub fn freshness(&self) -> Freshness {
        let state = self.state.borrow();
        let latest = state.latest.as_ref();
        Freshness {
            latest: latest.map(|latest| (latest.begun.elapsed(), latest.snapshot.number_of_images())),
            is_failing: state.failed,
        }
    }

    /// How often Incus was asked.
    pub fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// Which images are shown.
    pub fn images(&self) -> Visibility {
        self.images
    }

    /// The latest snapshot of a slow Incus, while it is as new as may be.
    fn slow(&self) -> Option<Arc<Snapshot>> {
        let state = self.state.borrow();
        let latest = state.latest.as_ref().filter(|_| !state.failed)?;
        let cycle = latest.took * (SHARE_OF_INCUS + 2);
        let is_slow = latest.took * SHARE_OF_INCUS > self.refresh;
        (is_slow && latest.begun.elapsed() <= self.refresh + cycle).then(|| Arc::clone(&latest.snapshot))
    }

    fn request_refresh(&self, moment: Instant) {
        self.wanted.send_if_modified(|wanted| {
            let later = moment > *wanted;
            *wanted = moment.max(*wanted);
            later
        });
    }

    /// A snapshot of which `is_there` holds, or else one that was begun after now: what was just published is found.
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
        // While Incus is away nobody knows what is not there.
        let is_away = self.state.borrow().failed;
        if is_away && !is_there(&fresh) {
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
        if latest.begun.elapsed() > self.stale.max(self.refresh) {
            return Err(Unavailable);
        }
        Ok(latest.snapshot)
    }
}

impl State {
    /// Whether there is nothing to wait for: a snapshot that is new enough, or Incus known to be away.
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
    refresh: Duration,
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
                    sleep_until(begun + self.refresh.clamp(MIN_GAP, MAX_ABSENCE)).await;
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
        // Without a last one, there is nothing better than to wait.
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
            // The old one, where nothing has changed: nothing is compressed again, and the new one's memory is free at once.
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
            tracing::info!("the list of images is fresh again");
        }
        if !is_trusted && was.latest.is_none_or(|was| was.snapshot.is_trusted) {
            tracing::warn!(
                "Incus does not trust upstream.client_certificate, so admins get nothing through this gateway; run `incus config trust add-certificate` with that file"
            );
        }
    }

    /// Whoever still reads the last one may keep it for a while.
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
                    Some(_) => "strangers see the last list of images meanwhile",
                    None => "strangers see no images meanwhile",
                };
                match error {
                    // The upstream client has said why.
                    FetchError::Upstream(error) if !error.is_of_an_answer() => tracing::warn!("{meanwhile}"),
                    _ => tracing::warn!("{error}; {meanwhile}"),
                }
            }
            state.failed = true;
        });
    }
}

async fn fetch(upstream: &Upstream, images: Visibility) -> Result<Snapshot, FetchError> {
    let server = upstream.fetch("/1.0", upstream::MAX_SERVER_INFO).await?;
    let list = upstream.fetch("/1.0/images?recursion=1", MAX_SIZE).await?;
    Ok(Snapshot::parse(&server, &list, images)?)
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("Incus answered something else than a list of images ({0}); is it Incus that answers there?")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("Incus took longer than {} s to list its images", .0.as_secs_f32())]
    Timeout(Duration),
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}
