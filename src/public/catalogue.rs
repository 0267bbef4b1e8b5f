//! The catalogue of published images, kept up to date.
//!
//! A task, the [`refresher`], holds a stream of Incus's [`events`] open, and fetches what they name: a [`follower`] applies
//! it to the latest [`Snapshot`]. Before a request gets a snapshot older than `public.max_age`, a ping on the stream proves
//! that no event is missing. Without requests, no ping is sent.
//!
//! While there is no stream, or it may be incomplete, the refresher fetches the whole list when a request needs a newer
//! snapshot than the latest. All requests that arrive meanwhile wait for the same fetch. Without requests, nothing is
//! fetched. While Incus is unavailable, the latest snapshot answers, and the refresher retries by itself, so that the
//! snapshot is never older than the outage.

mod board;
mod connector;
mod event;
mod events;
mod fetch;
mod follower;
mod refresher;

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use edge::counters::Counter;
use edge::generation::OldGenerations;
use edge::upstream::{Target, Upstream};
use tokio::sync::watch;
use tokio::time::Instant;

use self::board::{Board, State};
use self::fetch::LATE;
use self::refresher::Refresher;
use super::snapshot::Snapshot;
use crate::config::{PublicConfig, Visibility};

/// Fetches of the list take at most one part in this many of Incus's time, even if clients keep requesting names that do
/// not exist.
const SHARE_OF_INCUS: u32 = 5;

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
    counts: Arc<CatalogueCounts>,
    old: Arc<OldGenerations>,
}

/// Counters of what keeps the catalogue up to date.
#[derive(Debug, Default)]
pub struct CatalogueCounts {
    /// Failed fetches of the list.
    pub failed: Counter,
    /// Successful fetches of the list.
    pub succeeded: Counter,
    /// Applied events.
    pub events: Counter,
    /// Differences between the list and what the events had led to. They are a fault, in Incus or here.
    pub corrections: Counter,
}

/// Age and size of the image list.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// Age of the latest list, and its number of images, if there is one.
    pub latest: Option<(Duration, usize)>,
    /// Whether the last fetch failed.
    pub is_failing: bool,
    /// Whether the list follows Incus's events, rather than being fetched as a whole.
    pub follows_events: bool,
}

impl Catalogue {
    /// Spawns the refresher on the current local task set. It ends when the catalogue is dropped. Inherits the snapshot
    /// of `last` if that has the same target and visibility.
    pub fn keep(config: &PublicConfig, target: Arc<Target>, last: Option<&Self>) -> Self {
        let inherited = last.filter(|last| Arc::ptr_eq(&last.target, &target) && last.images == config.images);
        let inherited = inherited.map(|last| last.state.borrow().without_events());
        let (wanted, want) = watch::channel(Instant::now());
        let (publish, state) = watch::channel(inherited.unwrap_or_default());
        let counts = last.map(|last| Arc::clone(&last.counts)).unwrap_or_default();
        let old = last.map(|last| Arc::clone(&last.old)).unwrap_or_default();
        let refresher = Refresher {
            board: Rc::new(Board {
                publish,
                counts: Arc::clone(&counts),
                old: Arc::clone(&old),
            }),
            want,
            upstream: Rc::new(Upstream::new(Arc::clone(&target))),
            images: config.images,
            max_age: config.max_age,
            next_list: Instant::now(),
            late: LATE,
        };
        tokio::task::spawn_local(refresher.run());
        Self {
            wanted,
            state,
            target,
            images: config.images,
            max_age: config.max_age,
            stale_if_error: config.stale_if_error,
            counts,
            old,
        }
    }

    /// Returns a snapshot no older than `public.max_age`. If Incus takes so long to list its images that this would
    /// keep it busy, returns the latest one.
    ///
    /// # Errors
    ///
    /// Fails with [`HttpError::CatalogueAway`] if there is no snapshot, or only one older than `public.stale_if_error`.
    pub async fn current(&self) -> Result<Arc<Snapshot>, Unavailable> {
        let now = Instant::now();
        let moment = now.checked_sub(self.max_age).unwrap_or(now);
        match self.slow() {
            Some(latest) => {
                self.request_refresh(moment);
                Ok(latest)
            }
            None => self.wait_fresh(moment, |_| false).await,
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
            follows_events: state.follows_events,
        }
    }

    /// Counters of what keeps the catalogue up to date.
    pub fn counts(&self) -> &CatalogueCounts {
        &self.counts
    }

    /// Which images are visible.
    pub fn images(&self) -> Visibility {
        self.images
    }

    /// Returns the latest snapshot if Incus is slow and the snapshot is as recent as its speed allows.
    fn slow(&self) -> Option<Arc<Snapshot>> {
        self.state.borrow().slow(self.max_age).cloned()
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

    /// Returns a snapshot that satisfies `is_there`, or else one that contains every change made before the call, so that an
    /// image is found as soon as it is published.
    ///
    /// # Errors
    ///
    /// Fails with [`HttpError::CatalogueAway`] if Incus is unavailable and the latest snapshot does not satisfy
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
        let fresh = self.wait_fresh(now, &is_there).await?;
        // While Incus is unavailable, a missing name may still exist.
        let is_away = self.state.borrow().failed;
        if is_away && !is_there(&fresh) {
            Err(Unavailable)
        } else {
            Ok(fresh)
        }
    }

    /// Waits for a snapshot that contains every change made before this moment, or is good enough anyway.
    async fn wait_fresh(
        &self,
        moment: Instant,
        is_enough: impl Fn(&Snapshot) -> bool,
    ) -> Result<Arc<Snapshot>, Unavailable> {
        let mut state = self.state.clone();
        if !state.borrow().satisfies(moment) {
            self.request_refresh(moment);
            let suffices = |state: &State| {
                state.satisfies(moment)
                    || state.latest.as_ref().is_some_and(|latest| is_enough(&latest.snapshot))
                    // If the stream of events breaks meanwhile, only a list can help, which a slow Incus gives much later.
                    || state.slow(self.max_age).is_some()
            };
            state.wait_for(suffices).await.map_err(|_| Unavailable)?;
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
