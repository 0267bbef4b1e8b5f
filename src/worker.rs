//! One worker a processor core: a thread with a runtime, a pool of connections to Incus, and clients' connections of its own.
//!
//! Nothing of a connection ever moves to another thread, so that nothing has to be locked or woken across threads.

pub mod handshakes;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handshakes::Handshakes;
use crate::identity::PeerCertificate;
use crate::limits::{Address, Limiter, Pace, Place, Reason, Unannounced};
use crate::live::Live;
use crate::metrics::{Counts, Metrics};
use crate::net::Port;
use crate::reply::Refusal;
use crate::telemetry::audit::Refusals;
use crate::upstream::Upstream;

/// How often connections to Incus are looked over that have been idle too long.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// How many tasks have their turn before the sockets are looked at again. A turn of a transfer moves a hundred kilobytes:
/// tokio's usual 61 of them would let a small request wait for milliseconds.
const TURNS: u32 = 4;

/// What one thread runs its tasks on.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS)
        .build_local(LocalOptions::default())
}

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Common {
    /// The configuration in force.
    pub live: watch::Receiver<Arc<Live>>,
    /// What they count by.
    pub limiter: Arc<Limiter>,
    /// Where each of them has its own figures.
    pub metrics: Arc<Metrics>,
    /// No new work is to be taken on.
    pub drain: CancellationToken,
    /// What is still under way is to be dropped.
    pub cut: CancellationToken,
    /// Who was refused.
    pub refusals: Arc<Refusals>,
}

/// What every connection of one worker shares.
#[derive(Debug)]
pub struct Worker {
    common: Common,
    upstream: RefCell<Rc<Upstream>>,
    tasks: TaskTracker,
    is_cut: Cell<bool>,
    handshakes: Rc<Handshakes>,
    counts: Arc<Counts>,
}

impl Worker {
    /// Must be called, like everything here, on the worker's own [`runtime`].
    pub fn start(common: Common) -> Rc<Self> {
        let upstream = Rc::new(Upstream::new(Arc::clone(&common.live.borrow().target)));
        let counts = common.metrics.of_worker();
        let worker = Rc::new(Self {
            common,
            upstream: RefCell::new(upstream),
            tasks: TaskTracker::new(),
            is_cut: Cell::new(false),
            handshakes: Rc::default(),
            counts,
        });
        tokio::task::spawn_local(Rc::clone(&worker).keep_house());
        tokio::task::spawn_local(Rc::clone(&worker.handshakes).give_turns());
        worker
    }

    /// The configuration in force at this moment.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.common.live.borrow())
    }

    /// The client of the Incus that is in force at this moment.
    pub fn upstream(&self) -> Rc<Upstream> {
        let live = self.common.live.borrow();
        let mut upstream = self.upstream.borrow_mut();
        if !upstream.is_for(&live.target) {
            *upstream = Rc::new(Upstream::new(Arc::clone(&live.target)));
        }
        Rc::clone(&upstream)
    }

    /// What all workers count by.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.common.limiter
    }

    /// What this one counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Judges a new connection, or what counts as one, by its client's own address; `None` if there is no place for it.
    pub fn admit(&self, port: Port, client: IpAddr) -> Option<Place> {
        let live = self.common.live.borrow();
        self.common
            .limiter
            .admit(port, client, &live.entrance(port).access, &live.limits)
            .ok()
    }

    /// Judges a connection that a proxy begins, before it has said whose it is; `None` if too many wait for that.
    pub fn expect_client(&self, port: Port, proxy: IpAddr) -> Option<Unannounced> {
        let limits = self.common.live.borrow().limits;
        self.common.limiter.expect_client(port, proxy, &limits).ok()
    }

    /// Judges a stranger's next request by where it comes from, and says how slowly the answer may be taken.
    pub fn allow(&self, client: IpAddr, counted_by: Option<&Address>) -> Result<Pace, Refusal> {
        let live = self.common.live.borrow();
        if !live.public.access.permits(client) {
            self.common.limiter.count(Reason::Network);
            return Err(Refusal::Network);
        }
        if let Some(address) = counted_by {
            let booked = address.book(live.limits.requests);
            booked.map_err(|wait| self.too_many(client, live.limits.requests, wait))?;
        }
        Ok(Pace::new(live.limits.download_rate, live.limits.stall))
    }

    /// Counts a request on the admin port that is about to be refused by where it comes from, as the public port counts all
    /// of them.
    pub fn allow_refusal(&self, client: IpAddr) -> Result<(), Refusal> {
        let requests = self.common.live.borrow().limits.requests;
        let booked = self.common.limiter.book(client, requests);
        booked.map_err(|wait| self.too_many(client, requests, wait))
    }

    fn too_many(&self, client: IpAddr, requests: u32, wait: Duration) -> Refusal {
        if self.common.limiter.count(Reason::Requests) {
            tracing::info!(
                "limits.requests: refused a request of {client}, which makes more than {requests} a second; no more of this is \
                 told until a minute has gone by without it"
            );
        }
        Refusal::TooManyRequests(wait)
    }

    /// Completes when a certificate is listed.
    pub async fn listed(&self, certificate: &PeerCertificate) {
        self.once(|live| live.admins.list(certificate)).await;
    }

    /// Completes when a certificate is not listed any more, or where it is used from is closed to admins.
    pub async fn revoked(&self, certificate: &PeerCertificate, client: IpAddr) {
        self.once(|live| !live.admins.list(certificate) || !live.admin.access.permits(client))
            .await;
    }

    async fn once(&self, holds: impl Fn(&Live) -> bool) {
        let mut live = self.common.live.clone();
        if live.wait_for(|live| holds(live)).await.is_err() {
            // Nobody reloads any more: the gateway is ending.
            std::future::pending::<()>().await;
        }
    }

    /// Runs a task that a drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Completes when no new work is to be taken on.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.common.drain.clone().cancelled_owned()
    }

    /// Waits for every task, but no longer than until they are cut. Those that are left then go with the runtime.
    pub async fn finish(&self) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.common.cut.cancelled() => self.is_cut.set(true),
        }
    }

    /// Whether what is still under way is about to be dropped, since the time for a drain is over.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Whose turn it is to shake hands.
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// Who was refused on the admin port.
    pub fn refusals(&self) -> &Refusals {
        &self.common.refusals
    }

    async fn keep_house(self: Rc<Self>) {
        let mut interval = tokio::time::interval(HOUSEKEEPING);
        loop {
            interval.tick().await;
            let upstream = Rc::clone(&self.upstream.borrow());
            upstream.close_idle();
            self.common.refusals.tell();
        }
    }
}
