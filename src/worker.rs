//! Workers, one per processor core: a thread with its own runtime, pool of connections to Incus, and client connections.
//!
//! A connection never moves to another thread, so nothing needs a lock or a wake-up across threads.

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
use crate::telemetry::stranger_log::StrangerLog;
use crate::upstream::Upstream;

/// Interval for closing connections to Incus that have been idle too long.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// Interval for comparing the wall clock with an administrator's certificate while a connection or a tunnel is open.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// Number of tasks that run before the runtime polls for I/O events. One poll of a transfer moves a hundred kilobytes, so
/// tokio's default of 61 would delay a small request by milliseconds.
const TURNS: u32 = 4;

/// Builds the runtime of one worker thread.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS)
        .build_local(LocalOptions::default())
}

/// State that all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// The limiter of connections and requests.
    pub limiter: Arc<Limiter>,
    /// The registry of each worker's metrics.
    pub metrics: Arc<Metrics>,
    /// Cancelled when no new work may be accepted.
    pub drain: CancellationToken,
    /// Cancelled when the work in flight must be dropped.
    pub cut: CancellationToken,
    /// Log of the requests of strangers.
    pub strangers: Arc<StrangerLog>,
}

/// State that all connections of one worker share.
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
    /// Starts a worker. This and all other methods must be called on the worker's own [`runtime`].
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

    /// Returns the current configuration.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.shared.state.borrow())
    }

    /// Returns the client of the currently configured Incus.
    pub fn upstream(&self) -> Rc<Upstream> {
        let state = self.shared.state.borrow();
        let mut upstream = self.upstream.borrow_mut();
        if !upstream.is_for(&state.target) {
            *upstream = Rc::new(Upstream::new(Arc::clone(&state.target)));
        }
        Rc::clone(&upstream)
    }

    /// Returns the limiter that all workers share.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.shared.limiter
    }

    /// Returns this worker's metrics.
    pub fn counts(&self) -> &WorkerMetrics {
        &self.counts
    }

    /// Admits a new connection, or a download that counts as one, by its client's own address. Returns `None` if it is
    /// rejected.
    pub fn admit(&self, port: Port, client: IpAddr) -> Option<ConnectionPermit> {
        let state = self.shared.state.borrow();
        self.shared
            .limiter
            .admit(port, client, &state.listener(port).access, &state.limits)
            .ok()
    }

    /// Admits a connection from a proxy before its PROXY header has arrived. Returns `None` if too many such connections are
    /// open.
    pub fn admit_proxy(&self, port: Port, proxy: IpAddr) -> Option<PendingProxyPermit> {
        let limits = self.shared.state.borrow().limits;
        self.shared.limiter.admit_proxy(port, proxy, &limits).ok()
    }

    /// Checks a stranger's request by its address, and returns the minimum rate for reading the response.
    ///
    /// # Errors
    /// Fails if the network may not connect or exceeds its request rate.
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

    /// Counts a request on the admin port that is about to be rejected, by its address, as the public port counts every
    /// request.
    ///
    /// # Errors
    /// Fails if the address exceeds its request rate.
    pub fn allow_refusal(&self, client: IpAddr) -> Result<(), Rejection> {
        let requests = self.shared.state.borrow().limits.requests_per_second;
        let booked = self.shared.limiter.try_acquire(client, requests);
        booked.map_err(|wait| self.too_many(client, requests, wait))
    }

    fn too_many(&self, client: IpAddr, requests: u32, wait: Duration) -> Rejection {
        if self.shared.limiter.count(RejectReason::Requests) {
            tracing::info!(
                "limits.requests_per_second: rejected a request from {client}, which sends more than {requests} per \
                 second; further ones are not logged until a minute passes without any"
            );
        }
        Rejection::TooManyRequests(wait)
    }

    /// Returns the semaphore of filter and search evaluation. It allows one evaluation per worker at a time, so other tasks
    /// wait for at most one slice of it, however many evaluations are queued.
    pub fn evaluation(&self) -> &Semaphore {
        &self.evaluation
    }

    /// Checks whether a stranger's filter or search may be evaluated, by the CPU time that the address has used.
    ///
    /// # Errors
    /// Fails if no CPU time is left.
    pub fn allow_evaluation(&self, client: IpAddr, counted_by: Option<&ClientBucket>) -> Result<(), Rejection> {
        let Some(Err(wait)) = counted_by.map(ClientBucket::has_cpu_time) else {
            return Ok(());
        };
        if self.shared.limiter.count(RejectReason::Cpu) {
            tracing::info!(
                "limits.requests_per_second: rejected a filter or search from {client}, whose previous ones used more \
                 than 1 ms of CPU time for each request that it may send; further ones are not logged until a minute \
                 passes without any"
            );
        }
        Err(Rejection::TooMuchCpu(wait))
    }

    /// Charges an address for the CPU time of an evaluation slice.
    pub fn charge(&self, counted_by: Option<&ClientBucket>, cpu: Duration) {
        if let Some(address) = counted_by {
            address.charge(cpu, self.shared.state.borrow().limits.requests_per_second);
        }
    }

    /// Completes when a certificate authorizes its client as an administrator: it is listed and within its validity.
    pub async fn admitted(&self, certificate: &PeerCertificate) {
        self.once(certificate, |state, now| {
            state.admins.judge(Some(certificate), now).ok().map(drop)
        })
        .await;
    }

    /// Completes when a certificate no longer authorizes its client, or the client's network may no longer connect to the
    /// admin port. Returns the reason.
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

    /// Runs `check` until it returns a value: after each reload, when the certificate's validity begins or ends, and every
    /// [`CLOCK_CHECK`], because the wall clock can be changed and timers do not follow it.
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
            // The sender is dropped at shutdown, after which there is no reload.
            let _ = timeout(next, async {
                if state.changed().await.is_err() {
                    pending::<()>().await;
                }
            })
            .await;
        }
    }

    /// Spawns a task that a drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Completes when no new work may be accepted.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.shared.drain.clone().cancelled_owned()
    }

    /// Waits for all tasks, until they complete or are cut. The remaining ones are dropped with the runtime.
    pub async fn finish(&self) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.shared.cut.cancelled() => self.is_cut.set(true),
        }
    }

    /// Returns whether the work in flight is about to be dropped because the drain timeout is over.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Returns the scheduler of TLS handshakes.
    pub fn handshakes(&self) -> &HandshakeScheduler {
        &self.handshakes
    }

    /// Returns the log of the requests of strangers.
    pub fn strangers(&self) -> &StrangerLog {
        &self.shared.strangers
    }

    async fn maintenance(self: Rc<Self>) {
        let mut interval = tokio::time::interval(HOUSEKEEPING);
        loop {
            interval.tick().await;
            let upstream = Rc::clone(&self.upstream.borrow());
            upstream.close_idle();
            self.shared.strangers.flush();
        }
    }
}
