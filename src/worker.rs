//! One worker a processor core: a thread with a runtime, a pool of connections to Incus, and clients' connections of its own.
//!
//! Nothing of a connection ever moves to another thread, so that nothing has to be locked or woken across threads.

pub mod handshake_scheduler;

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

use self::handshake_scheduler::HandshakeScheduler;
use crate::abort_reason::AbortReason;
use crate::admission::{ClientBucket, ConnectionPermit, Limiter, MinRate, PendingProxyPermit, RejectReason, Rejection};
use crate::identity::{AuthError, PeerCertificate};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::port::Port;
use crate::state::State;
use crate::telemetry::rejected_cert_log::RejectedCertLog;
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
pub struct Shared {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// What they count by.
    pub limiter: Arc<Limiter>,
    /// Where each of them has its own figures.
    pub metrics: Arc<Metrics>,
    /// No new work is to be taken on.
    pub drain: CancellationToken,
    /// What is still under way is to be dropped.
    pub cut: CancellationToken,
    /// Who was refused.
    pub refusals: Arc<RejectedCertLog>,
}

/// What every connection of one worker shares.
#[derive(Debug)]
pub struct Worker {
    shared: Shared,
    upstream: RefCell<Rc<Upstream>>,
    tasks: TaskTracker,
    is_cut: Cell<bool>,
    handshakes: Rc<HandshakeScheduler>,
    counts: Arc<WorkerMetrics>,
    evaluation: Semaphore,
}

impl Worker {
    /// Must be called, like everything here, on the worker's own [`runtime`].
    pub fn start(shared: Shared) -> Rc<Self> {
        let upstream = Rc::new(Upstream::new(Arc::clone(&shared.state.borrow().target)));
        let counts = shared.metrics.of_worker();
        let worker = Rc::new(Self {
            shared,
            upstream: RefCell::new(upstream),
            tasks: TaskTracker::new(),
            is_cut: Cell::new(false),
            handshakes: Rc::default(),
            counts,
            evaluation: Semaphore::new(1),
        });
        tokio::task::spawn_local(Rc::clone(&worker).maintenance());
        tokio::task::spawn_local(Rc::clone(&worker.handshakes).give_turns());
        worker
    }

    /// The configuration in force at this moment.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.shared.state.borrow())
    }

    /// The client of the Incus that is in force at this moment.
    pub fn upstream(&self) -> Rc<Upstream> {
        let state = self.shared.state.borrow();
        let mut upstream = self.upstream.borrow_mut();
        if !upstream.is_for(&state.target) {
            *upstream = Rc::new(Upstream::new(Arc::clone(&state.target)));
        }
        Rc::clone(&upstream)
    }

    /// What all workers count by.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.shared.limiter
    }

    /// What this one counts.
    pub fn counts(&self) -> &WorkerMetrics {
        &self.counts
    }

    /// Judges a new connection, or what counts as one, by its client's own address; `None` if there is no place for it.
    pub fn admit(&self, port: Port, client: IpAddr) -> Option<ConnectionPermit> {
        let state = self.shared.state.borrow();
        self.shared
            .limiter
            .admit(port, client, &state.listener(port).access, &state.limits)
            .ok()
    }

    /// Judges a connection that a proxy begins, before it has said whose it is; `None` if too many wait for that.
    pub fn admit_proxy(&self, port: Port, proxy: IpAddr) -> Option<PendingProxyPermit> {
        let limits = self.shared.state.borrow().limits;
        self.shared.limiter.admit_proxy(port, proxy, &limits).ok()
    }

    /// Judges a stranger's next request by where it comes from, and says how slowly the answer may be taken.
    pub fn check_request(&self, client: IpAddr, counted_by: Option<&ClientBucket>) -> Result<MinRate, Rejection> {
        let state = self.shared.state.borrow();
        if !state.public.access.permits(client) {
            self.shared.limiter.count(RejectReason::Network);
            return Err(Rejection::Network);
        }
        if let Some(address) = counted_by {
            let booked = address.try_acquire(state.limits.requests_per_second);
            booked.map_err(|wait| self.too_many(client, state.limits.requests_per_second, wait))?;
        }
        Ok(MinRate::new(state.limits.min_send_rate, state.limits.send_grace))
    }

    /// Counts a request on the admin port that is about to be refused by where it comes from, as the public port counts all
    /// of them.
    pub fn allow_refusal(&self, client: IpAddr) -> Result<(), Rejection> {
        let requests = self.shared.state.borrow().limits.requests_per_second;
        let booked = self.shared.limiter.try_acquire(client, requests);
        booked.map_err(|wait| self.too_many(client, requests, wait))
    }

    fn too_many(&self, client: IpAddr, requests: u32, wait: Duration) -> Rejection {
        if self.shared.limiter.count(RejectReason::Requests) {
            tracing::info!(
                "limits.requests_per_second: refused a request of {client}, which makes more than {requests} a second; no more of this is \
                 told until a minute has gone by without it"
            );
        }
        Rejection::TooManyRequests(wait)
    }

    /// Held by the one filter or search that is evaluated on this worker at a time: however many wait, other tasks wait for
    /// one slice of it at the most.
    pub fn evaluation(&self) -> &Semaphore {
        &self.evaluation
    }

    /// Judges whether a stranger's filter or search may be evaluated, by the CPU time that others of the address have taken.
    pub fn allow_evaluation(&self, client: IpAddr, counted_by: Option<&ClientBucket>) -> Result<(), Rejection> {
        let Some(Err(wait)) = counted_by.map(ClientBucket::has_cpu_time) else {
            return Ok(());
        };
        if self.shared.limiter.count(RejectReason::Cpu) {
            tracing::info!(
                "limits.requests_per_second: refused a filter or search of {client}, whose others took more than a millisecond of CPU time \
                 for each request that it may make; no more of this is told until a minute has gone by without it"
            );
        }
        Err(Rejection::TooMuchCpu(wait))
    }

    /// Charges an address for a part of such an evaluation.
    pub fn charge(&self, counted_by: Option<&ClientBucket>, cpu: Duration) {
        if let Some(address) = counted_by {
            address.charge(cpu, self.shared.state.borrow().limits.requests_per_second);
        }
    }

    /// Completes when a certificate makes its client an administrator: it is listed, and within its dates.
    pub async fn admitted(&self, certificate: &PeerCertificate) {
        self.once(certificate, |state, now| {
            state.admins.judge(Some(certificate), now).ok().map(drop)
        })
        .await;
    }

    /// Completes when a certificate does so no longer, or where it is used from is closed to admins. Returns why.
    pub async fn revoked(&self, certificate: &PeerCertificate, client: IpAddr) -> AbortReason {
        self.once(certificate, |state, now| {
            if !state.admin.access.permits(client) {
                return Some(AbortReason::Revoked);
            }
            match state.admins.judge(Some(certificate), now) {
                Ok(_) => None,
                Err(AuthError::Expired | AuthError::NotYetValid) => Some(AbortReason::Expired),
                Err(AuthError::NoCertificate | AuthError::Unknown) => Some(AbortReason::Revoked),
            }
        })
        .await
    }

    /// Checks again after each reload, when the certificate's dates begin or end, and every [`CLOCK_CHECK`]: the wall
    /// clock can be set, and the timers do not follow it.
    async fn once<T>(&self, certificate: &PeerCertificate, check: impl Fn(&State, SystemTime) -> Option<T>) -> T {
        let mut state = self.shared.state.clone();
        loop {
            let now = SystemTime::now();
            if let Some(found) = check(&state.borrow_and_update(), now) {
                return found;
            }
            let next = certificate
                .next_change(now)
                .map_or(CLOCK_CHECK, |left| left.min(CLOCK_CHECK));
            // Nobody reloads any more when the gateway is ending.
            let _ = timeout(next, async {
                if state.changed().await.is_err() {
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
        self.shared.drain.clone().cancelled_owned()
    }

    /// Waits for every task, but no longer than until they are cut. Those that are left then go with the runtime.
    pub async fn finish(&self) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.shared.cut.cancelled() => self.is_cut.set(true),
        }
    }

    /// Whether what is still under way is about to be dropped, since the time for a drain is over.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Whose turn it is to shake hands.
    pub fn handshakes(&self) -> &HandshakeScheduler {
        &self.handshakes
    }

    /// Who was refused on the admin port.
    pub fn refusals(&self) -> &RejectedCertLog {
        &self.shared.refusals
    }

    async fn maintenance(self: Rc<Self>) {
        let mut interval = tokio::time::interval(HOUSEKEEPING);
        loop {
            interval.tick().await;
            let upstream = Rc::clone(&self.upstream.borrow());
            upstream.close_idle();
            self.shared.refusals.flush();
        }
    }
}
