//! Where the refresher publishes the state of the catalogue.

use std::sync::Arc;
use std::time::Duration;

use edge::generation::OldGenerations;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fetch::{FetchError, Listed};
use super::{CatalogueCounts, SHARE_OF_INCUS};
use crate::public::snapshot::Snapshot;

/// State of the catalogue.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) latest: Option<Fetched>,
    /// Whether the last fetch failed. Requests then do not wait for a newer snapshot.
    pub(super) failed: bool,
    pub(super) follows_events: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) snapshot: Arc<Snapshot>,
    /// The snapshot contains every change made before: the start of the fetch of the list, or of the ping that proved that
    /// no event is missing.
    pub(super) begun: Instant,
    /// Duration of the last fetch of the whole list.
    pub(super) took: Duration,
}

impl State {
    /// Whether a request can be answered without waiting: the snapshot is recent enough, or Incus is unavailable.
    pub(super) fn satisfies(&self, moment: Instant) -> bool {
        self.failed || self.latest.as_ref().is_some_and(|latest| latest.begun >= moment)
    }

    /// Returns the latest snapshot if Incus is slow and the snapshot is as recent as its speed allows. With a stream of
    /// events, Incus's speed does not matter.
    pub(super) fn slow(&self, max_age: Duration) -> Option<&Arc<Snapshot>> {
        let latest = self.latest.as_ref().filter(|_| !self.failed && !self.follows_events)?;
        let cycle = latest.took * (SHARE_OF_INCUS + 2);
        let is_slow = latest.took * SHARE_OF_INCUS > max_age;
        (is_slow && latest.begun.elapsed() <= max_age + cycle).then_some(&latest.snapshot)
    }

    /// The state for a new refresher, which has no stream of events yet.
    pub(super) fn without_events(&self) -> Self {
        Self {
            follows_events: false,
            ..self.clone()
        }
    }
}

/// The refresher's end of the state.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) publish: watch::Sender<State>,
    pub(super) counts: Arc<CatalogueCounts>,
    pub(super) old: Arc<OldGenerations>,
}

impl Board {
    pub(super) fn latest(&self) -> Option<Fetched> {
        self.publish.borrow().latest.clone()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.publish.borrow().failed
    }

    /// Publishes a list that was fetched.
    pub(super) fn listed(&self, listed: Listed) {
        let is_trusted = listed.snapshot.is_trusted;
        let last = self.latest();
        let latest = Fetched {
            // If nothing has changed, keep the old snapshot: this saves compression and frees the new one's memory
            // immediately.
            snapshot: match last {
                Some(last) if last.snapshot.is_same(&listed.snapshot) => last.snapshot,
                _ => Arc::new(listed.snapshot),
            },
            begun: listed.begun,
            took: listed.took,
        };
        latest.snapshot.compress();
        let follows_events = self.publish.borrow().follows_events;
        let was = self.publish.send_replace(State {
            latest: Some(latest),
            failed: false,
            follows_events,
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

    /// Publishes what events have led to. It is as recent as the last proof that no event is missing.
    pub(super) fn changed(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let last = self.latest();
        self.publish.send_modify(|state| {
            if let Some(latest) = &mut state.latest {
                latest.snapshot = snapshot;
            }
        });
        self.replaced(last.as_ref());
    }

    /// Records that the snapshot contains every change made before this moment.
    pub(super) fn proven(&self, moment: Instant) {
        self.publish.send_modify(|state| {
            if let Some(latest) = &mut state.latest {
                latest.begun = latest.begun.max(moment);
            }
        });
    }

    /// Records whether the snapshot follows the events. Returns whether that is new.
    pub(super) fn set_follows_events(&self, follows: bool) -> bool {
        let was = self.publish.borrow().follows_events;
        if was != follows {
            self.publish.send_modify(|state| state.follows_events = follows);
        }
        was != follows
    }

    pub(super) fn failed(&self, error: &FetchError) {
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

    /// Adds the replaced snapshot to the old generations: its readers may still hold it.
    fn replaced(&self, last: Option<&Fetched>) {
        if let (Some(last), Some(latest)) = (last, self.latest())
            && !Arc::ptr_eq(&last.snapshot, &latest.snapshot)
        {
            self.old.add(&last.snapshot.generation);
        }
    }
}
