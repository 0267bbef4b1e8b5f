//! Keeps the latest snapshot up to date with a stream of events.
//!
//! The list is fetched after the stream has been opened, so that every change is in the list or in an event. An event only
//! names what to fetch: whatever the order of events and responses, the last fetch of an image begins after the last event
//! that names it. The exception is a deletion, which Incus reports before it deletes: the image is hidden at once, and later
//! fetches find out when it is gone. Changes are applied one batch after the other; an alias that an event names is looked up in the snapshot
//! that the previous batch led to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::event::Change;
use super::events::{Broken, Heard};
use super::fetch::{Listed, Projects, image, server};
use super::refresher::{MIN_GAP, Refresher};
use crate::public::snapshot::{Changes, Snapshot};

/// Timeout of a pong. Together with the other times that requests wait for when Incus begins to hang, it stays below the
/// time within which a client gets a response.
const PONG_TIMEOUT: Duration = Duration::from_secs(1);
/// Average time between two pings, even if clients keep requesting names that do not exist, unless `public.max_age` is
/// shorter. A name that comes to exist meanwhile is found by its event.
const PING_PERIOD: Duration = Duration::from_millis(200);
/// Part of a longer time without pings that may be made up for.
const PING_CREDIT: Duration = Duration::from_secs(8);
/// Timeout of the responses about some images. Together with the other times that requests wait for when Incus begins to
/// hang, it stays below the time within which a client gets a response.
const FETCH_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Number of images that are fetched one by one before the result is published.
const BATCH: usize = 100;
/// The whole list is fetched if more than [`BATCH`] images may have changed, and more than one in this many.
const FEW: usize = 8;
/// Time by which an event arrives, usually a moment before the pong that Incus sends after it: it sends both from tasks of
/// their own.
const LATE_EVENT: Duration = Duration::from_millis(200);
/// Maximum number of changes that are remembered while a list is fetched.
const MAX_REMEMBERED: usize = 4_096;
/// Time without a change after which the lists are compressed. Until then, they are sent as they are.
const SETTLED: Duration = Duration::from_millis(300);

/// Time after which Incus is asked whether an image is deleted that it was about to delete. It doubles with each request.
const DELETION: Duration = Duration::from_millis(50);
/// Time after which an image that Incus was about to delete counts as not deleted.
const MAX_DELETION: Duration = Duration::from_secs(10);
/// Time after a list by which a deletion has ended that had been reported before the stream of events was opened.
const EARLIER_DELETION: Duration = Duration::from_secs(2);

/// Maximum time between two checks of the whole list, in times of `public.max_age`.
const CHECK_AGES: u32 = 300;
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// Checks of the whole list take at most one part in this many of Incus's time.
const CHECK_SHARE: u32 = 600;

/// Follows one stream of events.
pub(super) struct Follower<'a> {
    refresher: &'a mut Refresher,
    heard: mpsc::Receiver<Heard>,
    pings: mpsc::Sender<u64>,
    ping: Option<Ping>,
    number: u64,
    next_ping: Instant,
    /// The average rate of pings permits the next one then.
    paid_until: Instant,
    listing: Option<Listing>,
    /// A check of the whole list is due then, if there are requests.
    next_check: Instant,
    last_list: Instant,
    /// Images that other projects may have. Incus reports no deletion of an image that another project has too.
    elsewhere: HashSet<String>,
    /// Images that Incus is deleting. They are hidden.
    doomed: BTreeMap<String, Doomed>,
    /// When Incus is asked which images exist, after a list.
    look_again_at: Option<Instant>,
    compress_at: Option<Instant>,
    has_followed: bool,
}

/// An image that Incus is deleting.
struct Doomed {
    since: Instant,
    /// When Incus is asked whether it is gone.
    next: Instant,
}

/// A ping without a pong so far.
struct Ping {
    number: u64,
    sent: Instant,
}

/// A list that is being fetched.
struct Listing {
    step: Step,
    /// Whether the snapshot is out of date until then. If not, the list is only compared with it.
    is_needed: bool,
    /// What events have named, and when. The list contains what was named before its fetch began.
    changes: Vec<(Instant, Change)>,
}

enum Step {
    Fetching(Pin<Box<dyn Future<Output = Result<Fetched, Broken>>>>),
    /// It waits for the pong of a ping sent at this moment: all events of changes that it contains have arrived then.
    Fetched(Box<Fetched>, Instant),
}

/// A list, and the images of other projects.
struct Fetched {
    listed: Listed,
    elsewhere: HashSet<String>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(refresher: &'a mut Refresher, heard: mpsc::Receiver<Heard>, pings: mpsc::Sender<u64>) -> Self {
        let now = Instant::now();
        Self {
            refresher,
            heard,
            pings,
            ping: None,
            number: 0,
            next_ping: now,
            paid_until: now,
            listing: None,
            next_check: now,
            last_list: now,
            elsewhere: HashSet::new(),
            doomed: BTreeMap::new(),
            look_again_at: None,
            compress_at: None,
            has_followed: false,
        }
    }

    /// Runs until the snapshot cannot be kept up to date.
    pub(super) async fn run(&mut self) -> Broken {
        let Err(broken): Result<std::convert::Infallible, _> = self.follow().await;
        broken
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Broken> {
        self.begin_list(true);
        loop {
            let is_up_to_date = self.listing.as_ref().is_none_or(|listing| !listing.is_needed);
            let has_no_list = self.listing.is_none();
            let may_ping = is_up_to_date && self.ping.is_none();
            let compare_at = self.listing.as_ref().and_then(|listing| match listing.step {
                Step::Fetched(_, at) => Some(at),
                Step::Fetching(_) => None,
            });
            tokio::select! {
                biased;
                heard = self.heard.recv() => {
                    let heard = heard.ok_or(Broken::Closed)?;
                    self.hear(heard).await?;
                }
                fetched = fetched(&mut self.listing) => self.list_fetched(fetched?).await?,
                () = overdue(self.ping.as_ref()) => return Err(Broken::Silent),
                () = need_for_ping(self.refresher, self.next_ping, compare_at), if may_ping => self.send_ping()?,
                () = need_for_check(self.refresher, self.next_check, self.last_list), if has_no_list => {
                    self.begin_list(false);
                }
                () = at(next_of(&self.doomed)), if is_up_to_date => self.look_after_doomed().await?,
                () = at(self.compress_at) => self.compress(),
            }
        }
    }

    fn send_ping(&mut self) -> Result<(), Broken> {
        let sent = Instant::now();
        self.number += 1;
        self.pings.try_send(self.number).map_err(|_| Broken::Silent)?;
        self.paid_until = self.paid_until.max(sent) + self.refresher.max_age.clamp(MIN_GAP, PING_PERIOD);
        // The clock of a machine that has just started has no earlier moments.
        let credited = self.paid_until.checked_sub(PING_CREDIT).unwrap_or(sent);
        self.next_ping = credited.max(sent + MIN_GAP);
        self.ping = Some(Ping {
            number: self.number,
            sent,
        });
        Ok(())
    }

    /// Begins to fetch the list: because it is needed, or to compare it with what events have led to.
    fn begin_list(&mut self, is_needed: bool) {
        let now = Instant::now();
        let list = self.refresher.list();
        let upstream = Rc::clone(&self.refresher.upstream);
        let fetch = async move {
            // An image that another project gets later is in an event.
            let elsewhere = Projects::fetch(&upstream).await?.elsewhere;
            let listed = list.await.map_err(|_| Broken::NoList)?;
            Ok(Fetched { listed, elsewhere })
        };
        self.listing = Some(Listing {
            step: Step::Fetching(Box::pin(fetch)),
            is_needed,
            changes: self
                .doomed
                .keys()
                .map(|image| (now, Change::Deleted(image.clone())))
                .collect(),
        });
        if is_needed {
            self.refresher.board.set_follows_events(false);
        }
    }

    /// Applies everything that has been heard up to now.
    async fn hear(&mut self, first: Heard) -> Result<(), Broken> {
        let mut changes = Vec::new();
        let mut proven = None;
        let mut next = Some(first);
        while let Some(heard) = next {
            match heard {
                Heard::Change(change) => changes.push(change),
                Heard::Pong(number) => {
                    let answered = self.ping.take_if(|ping| ping.number == number);
                    proven = proven.max(answered.map(|ping| ping.sent));
                }
            }
            next = self.heard.try_recv().ok();
        }
        self.refresher.board.counts.events.add(changes.len() as u64);
        for change in &changes {
            match change {
                Change::Created(image) => drop(self.doomed.remove(image)),
                Change::Deleted(image) => {
                    let since = Instant::now();
                    let next = since + DELETION;
                    self.doomed.insert(image.clone(), Doomed { since, next });
                }
                Change::ImageElsewhere(image) => drop(self.elsewhere.insert(image.clone())),
                Change::Alias { .. } | Change::Anything(_) | Change::Image(_) | Change::Server => {}
            }
        }
        if let Some(listing) = &mut self.listing {
            let now = Instant::now();
            listing
                .changes
                .extend(changes.iter().map(|change| (now, change.clone())));
            if listing.changes.len() > MAX_REMEMBERED {
                return Err(Broken::Lagging);
            }
            if listing.is_needed {
                return Ok(());
            }
        }
        if changes.iter().any(is_anything) {
            self.begin_list(true);
            return Ok(());
        }
        self.apply(&changes, BTreeSet::new(), proven).await?;
        let is_whole = |listing: &mut Listing| match listing.step {
            Step::Fetched(_, at) => proven.is_some_and(|proven| proven >= at),
            Step::Fetching(_) => false,
        };
        if let Some(Listing {
            step: Step::Fetched(fetched, _),
            changes,
            ..
        }) = self.listing.take_if(is_whole)
        {
            let changes = since(fetched.listed.begun, changes);
            self.compare(*fetched, &changes).await?;
        }
        Ok(())
    }

    /// Fetches what the changes name, and publishes the snapshot that they lead to. `proven` is the moment before which
    /// every change is among these and earlier ones.
    async fn apply(
        &mut self,
        changes: &[Change],
        mut images: BTreeSet<String>,
        proven: Option<Instant>,
    ) -> Result<(), Broken> {
        let latest = self.refresher.board.latest().ok_or(Broken::NoList)?.snapshot;
        for change in changes {
            change.resolve(&latest, &mut images);
        }
        if proven.is_some() {
            self.find_silently_deleted(&latest, &mut images).await?;
        }
        if images.len() > BATCH.max(latest.number_of_images() / FEW) {
            self.begin_list(true);
            return Ok(());
        }
        let mut is_server_needed = changes.contains(&Change::Server);
        let images: Vec<_> = images.into_iter().collect();
        let mut batches = images.chunks(BATCH);
        loop {
            let batch = batches.next().unwrap_or_default();
            if batch.is_empty() && !is_server_needed {
                break;
            }
            let fetch = self.fetch_and_publish(batch, std::mem::take(&mut is_server_needed));
            timeout(FETCH_TIMEOUT, fetch).await.map_err(|_| Broken::Silent)??;
        }
        let now = self.refresher.board.latest().ok_or(Broken::NoList)?.snapshot;
        if now.is_trusted != latest.is_trusted {
            self.begin_list(true);
            return Ok(());
        }
        if let Some(proven) = proven {
            self.refresher.board.proven(proven);
        }
        Ok(())
    }

    async fn fetch_and_publish(&mut self, batch: &[String], is_server_needed: bool) -> Result<(), Broken> {
        let Refresher {
            upstream,
            board,
            images,
            ..
        } = &*self.refresher;
        let server = match is_server_needed {
            true => Some(server(upstream).await?),
            false => None,
        };
        let mut fetched = Changes::new();
        for fingerprint in batch {
            let image = match self.doomed.contains_key(fingerprint) {
                true => None,
                false => image(upstream, fingerprint, *images).await?,
            };
            fetched.insert(fingerprint.clone(), image);
        }
        let latest = board.latest().ok_or(Broken::NoList)?.snapshot;
        if let Some(changed) = latest.changed(server, fetched) {
            board.changed(changed);
            self.compress_at = Some(Instant::now() + SETTLED);
        }
        Ok(())
    }

    /// Shows an image again that Incus has not deleted in the end, and forgets those that are gone.
    async fn look_after_doomed(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        let due = self.doomed.iter().filter(|(_, doomed)| doomed.next <= now);
        let due: Vec<_> = due.map(|(image, _)| image.clone()).collect();
        let mut undeleted = BTreeSet::new();
        for fingerprint in due {
            let fetch = image(&self.refresher.upstream, &fingerprint, self.refresher.images);
            let found = timeout(FETCH_TIMEOUT, fetch).await.map_err(|_| Broken::Silent)??;
            match self.doomed.get_mut(&fingerprint) {
                Some(doomed) if found.is_some() && doomed.since.elapsed() < MAX_DELETION => {
                    doomed.next = now + doomed.since.elapsed().max(DELETION);
                }
                _ => {
                    self.doomed.remove(&fingerprint);
                    undeleted.extend(found.map(|_| fingerprint));
                }
            }
        }
        match undeleted.is_empty() {
            true => Ok(()),
            false => self.apply(&[], undeleted, None).await,
        }
    }

    /// Incus reports the deletion of an image only if no other project has it.
    async fn find_silently_deleted(&mut self, latest: &Snapshot, images: &mut BTreeSet<String>) -> Result<(), Broken> {
        let is_later = self.look_again_at.take_if(|at| *at <= Instant::now()).is_some();
        if !is_later && !latest.fingerprints().any(|image| self.elsewhere.contains(image)) {
            return Ok(());
        }
        let projects = Projects::fetch(&self.refresher.upstream).await?;
        let missing = latest.fingerprints().filter(|image| !projects.here.contains(*image));
        images.extend(missing.map(ToOwned::to_owned));
        self.elsewhere = projects.elsewhere;
        Ok(())
    }

    async fn list_fetched(&mut self, fetched: Fetched) -> Result<(), Broken> {
        let listed = &fetched.listed;
        self.refresher.note(listed);
        self.last_list = listed.begun;
        let interval = (self.refresher.max_age * CHECK_AGES).min(MAX_CHECK_INTERVAL);
        self.next_check = listed.begun + interval.max(listed.took * CHECK_SHARE);
        let Some(mut listing) = self.listing.take() else {
            return Ok(());
        };
        if !listing.is_needed {
            listing.step = Step::Fetched(Box::new(fetched), Instant::now() + LATE_EVENT);
            self.listing = Some(listing);
            return Ok(());
        }
        let changes = since(listed.begun, listing.changes);
        self.refresher.board.listed(fetched.listed);
        self.elsewhere.extend(fetched.elsewhere);
        if changes.iter().any(is_anything) {
            self.begin_list(true);
            return Ok(());
        }
        self.look_again_at = Some(Instant::now() + EARLIER_DELETION);
        self.apply(&changes, BTreeSet::new(), None).await?;
        if self.listing.is_none() && self.refresher.board.set_follows_events(true) && !self.has_followed {
            self.has_followed = true;
            tracing::info!("the image list follows Incus's events");
        }
        Ok(())
    }

    /// Corrects what differs between a list and the snapshot that the events have led to, although no event since before the
    /// list names it.
    async fn compare(&mut self, fetched: Fetched, changes: &[Change]) -> Result<(), Broken> {
        let listed = fetched.listed;
        self.elsewhere.extend(fetched.elsewhere);
        let latest = self.refresher.board.latest().ok_or(Broken::NoList)?.snapshot;
        let mut named = BTreeSet::new();
        for change in changes {
            change.resolve(&latest, &mut named);
            change.resolve(&listed.snapshot, &mut named);
        }
        let differences = latest.differences(&listed.snapshot);
        let wrong: BTreeSet<_> = differences
            .into_iter()
            .filter(|image| !named.contains(*image))
            .collect();
        let is_server_wrong = !latest.has_same_server(&listed.snapshot) && !changes.contains(&Change::Server);
        let corrections = wrong.len() + usize::from(is_server_wrong);
        if corrections > 0 {
            self.refresher.board.counts.corrections.add(corrections as u64);
            let examples: Vec<_> = wrong.iter().take(3).copied().collect();
            tracing::warn!(
                images = examples.join(", "),
                "Incus reported no event of {corrections} changes of its images; the image list is corrected"
            );
        }
        let server = is_server_wrong.then_some(Change::Server);
        let images = wrong.into_iter().map(ToOwned::to_owned).chain(named).collect();
        self.apply(server.as_slice(), images, None).await
    }

    fn compress(&mut self) {
        self.compress_at = None;
        if let Some(latest) = self.refresher.board.latest() {
            let snapshot = Arc::clone(&latest.snapshot);
            // Compressing a long list takes longer than the events should wait.
            tokio::task::spawn_blocking(move || snapshot.compress());
        }
    }
}

/// Waits until a ping is needed: because of a request, or at this moment.
async fn need_for_ping(refresher: &Refresher, next: Instant, moment: Option<Instant>) {
    sleep_until(next).await;
    tokio::select! {
        () = refresher.wait_for_want() => {}
        () = at(moment) => {}
    }
}

/// Waits until the whole list is to be checked: from time to time, if there have been requests since the last one.
async fn need_for_check(refresher: &Refresher, next: Instant, last: Instant) {
    sleep_until(next).await;
    if refresher.want.clone().wait_for(|wanted| *wanted > last).await.is_err() {
        // The catalogue is dropped, and this task ends.
        std::future::pending::<()>().await;
    }
}

async fn fetched(listing: &mut Option<Listing>) -> Result<Fetched, Broken> {
    let Some(Listing {
        step: Step::Fetching(fetch),
        ..
    }) = listing
    else {
        return std::future::pending().await;
    };
    fetch.await
}

fn next_of(doomed: &BTreeMap<String, Doomed>) -> Option<Instant> {
    doomed.values().map(|doomed| doomed.next).min()
}

/// Returns what may have changed since this moment: a deletion may follow its event much later.
fn since(moment: Instant, changes: Vec<(Instant, Change)>) -> Vec<Change> {
    let is_since = |(at, change): &(Instant, Change)| *at >= moment || matches!(change, Change::Deleted(_));
    let changes = changes.into_iter().filter(is_since);
    changes.map(|(_, change)| change).collect()
}

fn is_anything(change: &Change) -> bool {
    matches!(change, Change::Anything(_))
}

async fn overdue(ping: Option<&Ping>) {
    at(ping.map(|ping| ping.sent + PONG_TIMEOUT)).await;
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
