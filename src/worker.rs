//! One worker a processor core: a thread with a runtime, a pool of connections to Incus, and clients' connections of its own.
//!
//! Nothing of a connection ever moves to another thread, so that nothing has to be locked or woken across threads.

pub mod handshakes;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handshakes::Handshakes;
use crate::client::Cut;
use crate::identity::{NotAnAdmin, PeerCertificate};
use crate::limits::{Address, Limiter, Pace, Place, Reason, Unannounced};
use crate::live::Live;
use crate::metrics::{Counts, Metrics};
use crate::net::Port;
use crate::reply::Refusal;
use crate::telemetry::audit::Refusals;
use crate::upstream::Upstream;

/// How often connections to Incus are looked over that have been idle too long.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// How often the wall clock is compared with an administrator's certificate while a connection or a tunnel is open.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

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
    evaluation: Semaphore,
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
            evaluation: Semaphore::new(1),
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

    /// Held by the one filter or search that is evaluated on this worker at a time: however many wait, other tasks wait for
    /// one slice of it at the most.
    pub fn evaluation(&self) -> &Semaphore {
        &self.evaluation
    }

    /// Judges whether a stranger's filter or search may be evaluated, by the CPU time that others of the address have taken.
    pub fn allow_evaluation(&self, client: IpAddr, counted_by: Option<&Address>) -> Result<(), Refusal> {
        let Some(Err(wait)) = counted_by.map(Address::has_cpu_time) else {
            return Ok(());
        };
        if self.common.limiter.count(Reason::Cpu) {
            tracing::info!(
                "limits.requests: refused a filter or search of {client}, whose others took more than a millisecond of CPU time \
                 for each request that it may make; no more of this is told until a minute has gone by without it"
            );
        }
        Err(Refusal::TooMuchCpu(wait))
    }

    /// Charges an address for a part of such an evaluation.
    pub fn charge(&self, counted_by: Option<&Address>, cpu: Duration) {
        if let Some(address) = counted_by {
            address.charge(cpu, self.common.live.borrow().limits.requests);
        }
    }

    /// Completes when a certificate makes its client an administrator: it is listed, and within its dates.
    pub async fn admitted(&self, certificate: &PeerCertificate) {
        self.once(certificate, |live, now| {
            live.admins.judge(Some(certificate), now).ok().map(drop)
        })
        .await;
    }

    /// Completes when a certificate does so no longer, or where it is used from is closed to admins. Returns why.
    pub async fn revoked(&self, certificate: &PeerCertificate, client: IpAddr) -> Cut {
        self.once(certificate, |live, now| {
            if !live.admin.access.permits(client) {
                return Some(Cut::Revoked);
            }
            match live.admins.judge(Some(certificate), now) {
                Ok(_) => None,
                Err(NotAnAdmin::Expired | NotAnAdmin::NotYetValid) => Some(Cut::Expired),
                Err(NotAnAdmin::NoCertificate | NotAnAdmin::Unknown) => Some(Cut::Revoked),
            }
        })
        .await
    }

    /// Checks again after each reload, when the certificate's dates begin or end, and every [`CLOCK_CHECK`]: the wall
    /// clock can be set, and the timers do not follow it.
    async fn once<T>(&self, certificate: &PeerCertificate, check: impl Fn(&Live, SystemTime) -> Option<T>) -> T {
        let mut live = self.common.live.clone();
        loop {
            let now = SystemTime::now();
            if let Some(found) = check(&live.borrow_and_update(), now) {
                return found;
            }
            let next = certificate
                .next_change(now)
                .map_or(CLOCK_CHECK, |left| left.min(CLOCK_CHECK));
            // Nobody reloads any more when the gateway is ending.
            let _ = timeout(next, async {
                if live.changed().await.is_err() {
                    pending::<()>().await;
                }
            })
            .await;
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
