//! The task that keeps the catalogue up to date.

use std::rc::Rc;
use std::time::Duration;

use edge::upstream::Upstream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::SHARE_OF_INCUS;
use super::board::Board;
use super::connector::Connector;
use super::events::{Broken, EventStream};
use super::fetch::{LATE, Listed, list};
use super::follower::Follower;
use crate::config::Visibility;

/// Minimum time between the starts of two fetches.
pub(super) const MIN_GAP: Duration = Duration::from_millis(50);
/// Maximum time between the starts of two fetches while Incus is unavailable, whatever `public.max_age` allows.
const MAX_ABSENCE: Duration = Duration::from_secs(1);
/// Time by which the stream of events is opened, usually, so that the first list is fetched only once.
const HEAD_START: Duration = Duration::from_secs(1);
/// As [`LATE`], after requests have already waited for a response on the stream of events.
const LATE_AFTER_SILENCE: Duration = Duration::from_secs(1);
/// Time after which a stream that ends is not counted as a failed attempt.
const STABLE: Duration = Duration::from_secs(30);
/// Maximum number of events that wait to be applied.
const QUEUE: usize = 4_096;

/// The task that keeps the catalogue up to date.
#[derive(Debug)]
pub(super) struct Refresher {
    pub(super) board: Rc<Board>,
    /// The moment since which a request wants every change.
    pub(super) want: watch::Receiver<Instant>,
    pub(super) upstream: Rc<Upstream>,
    pub(super) images: Visibility,
    pub(super) max_age: Duration,
    /// When the next list may be fetched.
    pub(super) next_list: Instant,
    /// Time after which a fetch of the list is late.
    pub(super) late: Duration,
}

impl Refresher {
    /// Runs until the catalogue is dropped.
    pub(super) async fn run(mut self) {
        let board = Rc::clone(&self.board);
        tokio::select! {
            () = board.publish.closed() => {}
            () = self.keep_up_to_date() => {}
        }
    }

    async fn keep_up_to_date(&mut self) {
        let mut connector = Connector::new(Rc::clone(&self.upstream));
        self.next_list = Instant::now() + HEAD_START;
        let mut is_first_attempt = true;
        // Whether the list is fetched even if no request needs it.
        let mut is_due = true;
        loop {
            tokio::select! {
                biased;
                opened = connector.connect() => match opened {
                    Ok(stream) => {
                        if std::mem::take(&mut is_first_attempt) {
                            self.next_list = Instant::now();
                        }
                        self.follow(stream, &mut connector).await;
                        is_due = self.board.has_failed();
                    }
                    Err(broken) => {
                        if std::mem::take(&mut is_first_attempt) {
                            self.next_list = Instant::now();
                            say_why_not(&broken);
                        }
                    }
                },
                () = self.need_for_list(is_due) => is_due = !self.poll(&mut connector).await,
            }
        }
    }

    async fn need_for_list(&self, is_due: bool) {
        sleep_until(self.next_list).await;
        if !is_due {
            self.wait_for_want().await;
        }
    }

    /// Waits until a request wants more recent changes than the latest snapshot is known to contain.
    pub(super) async fn wait_for_want(&self) {
        let begun = self.board.latest().map(|latest| latest.begun);
        let is_newer = |wanted: &Instant| begun.is_none_or(|begun| *wanted > begun);
        if self.want.clone().wait_for(is_newer).await.is_err() {
            // The catalogue is dropped, and this task ends.
            std::future::pending::<()>().await;
        }
    }

    /// Fetches the list without a stream of events. Returns whether it succeeded.
    async fn poll(&mut self, connector: &mut Connector) -> bool {
        let (had_failed, was_trusted) = (self.board.has_failed(), self.is_trusted());
        match self.list().await {
            Ok(listed) => {
                self.note(&listed);
                self.board.listed(listed);
            }
            Err(begun) => {
                self.next_list = begun + self.max_age.clamp(MIN_GAP, MAX_ABSENCE);
                return false;
            }
        }
        if had_failed || was_trusted != self.is_trusted() {
            connector.reset();
        }
        true
    }

    /// Fetches the list as soon as that is permitted. An error has been recorded; returns when the fetch began.
    pub(super) fn list(&self) -> impl Future<Output = Result<Listed, Instant>> + use<> {
        let (upstream, board) = (Rc::clone(&self.upstream), Rc::clone(&self.board));
        let (images, late, begin) = (self.images, self.late, self.next_list);
        async move {
            sleep_until(begin).await;
            let begun = Instant::now();
            list(&upstream, &board, images, late).await.map_err(|_| begun)
        }
    }

    /// Records that a list was fetched.
    pub(super) fn note(&mut self, listed: &Listed) {
        self.next_list = listed.begun + (listed.took * SHARE_OF_INCUS).max(MIN_GAP);
        self.late = LATE;
    }

    fn is_trusted(&self) -> bool {
        self.board.latest().is_some_and(|latest| latest.snapshot.is_trusted)
    }

    /// Follows a stream of events until it is incomplete.
    async fn follow(&mut self, stream: EventStream, connector: &mut Connector) {
        let begun = Instant::now();
        let (to, heard) = mpsc::channel(QUEUE);
        let (ping, pings) = mpsc::channel(1);
        let mut follower = Follower::new(self, heard, ping);
        let broken = tokio::select! {
            biased;
            broken = stream.pump(to, pings) => broken,
            broken = follower.run() => broken,
        };
        drop(follower);
        if let Broken::Silent = broken {
            self.late = LATE_AFTER_SILENCE;
        }
        if self.board.set_follows_events(false) {
            match &broken {
                // The upstream client has already logged the reason.
                Broken::Upstream(error) if !error.is_of_an_answer() => {
                    tracing::warn!("the image list no longer follows Incus's events; it is fetched as a whole");
                }
                broken => {
                    tracing::warn!("{broken}; the image list no longer follows its events, and is fetched as a whole");
                }
            }
        }
        if begun.elapsed() > STABLE {
            connector.reset();
        }
    }
}

fn say_why_not(broken: &Broken) {
    match broken {
        // The upstream client has already logged the reason.
        Broken::Upstream(error) if !error.is_of_an_answer() => {}
        broken => tracing::info!("{broken}; the image list does not follow events, and is fetched as a whole"),
    }
}
