//! Workers, one per processor core: a thread with its own runtime, services, and client connections.
//!
//! A connection never moves to another thread, so nothing needs a lock or a wake-up across threads.

pub mod handshake_scheduler;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use self::handshake_scheduler::HandshakeScheduler;
use crate::admission::{ClientBucket, ConnectionPermit, Limiter, MinRate, PendingProxyPermit, RejectReason, Rejection};
use crate::config::EdgeConfig;
use crate::listener_id::ListenerId;
use crate::metrics::WorkerMetrics;
use crate::shutdown::Shutdown;
use crate::telemetry::stranger_log::StrangerLog;

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

/// State that all connections of one worker share.
pub struct Worker {
    config: Box<dyn Fn() -> Arc<EdgeConfig>>,
    limiter: Arc<Limiter>,
    counts: Arc<WorkerMetrics>,
    handshakes: Rc<HandshakeScheduler>,
    strangers: Arc<StrangerLog>,
    shutdown: Shutdown,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a worker, whose configuration `config` returns at any time. This and all other methods must be called on the
    /// worker's own [`runtime`].
    pub fn start(
        config: impl Fn() -> Arc<EdgeConfig> + 'static,
        limiter: Arc<Limiter>,
        counts: Arc<WorkerMetrics>,
        strangers: Arc<StrangerLog>,
        shutdown: Shutdown,
    ) -> Rc<Self> {
        let handshakes = Rc::<HandshakeScheduler>::default();
        tokio::task::spawn_local(Rc::clone(&handshakes).run());
        Rc::new(Self {
            config: Box::new(config),
            limiter,
            counts,
            handshakes,
            strangers,
            shutdown,
        })
    }

    /// Returns the current configuration.
    pub fn config(&self) -> Arc<EdgeConfig> {
        (self.config)()
    }

    /// Returns the limiter that all workers share.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// Returns this worker's metrics.
    pub fn counts(&self) -> &WorkerMetrics {
        &self.counts
    }

    /// Returns the scheduler of TLS handshakes.
    pub fn handshakes(&self) -> &HandshakeScheduler {
        &self.handshakes
    }

    /// Returns the log of the requests of strangers.
    pub fn strangers(&self) -> &StrangerLog {
        &self.strangers
    }

    /// Returns the shutdown, with this worker's tasks.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Admits a new connection, or a download that counts as one, by its client's own address. Returns `None` if it is
    /// rejected.
    pub fn admit(&self, listener: ListenerId, client: IpAddr) -> Option<ConnectionPermit> {
        let config = self.config();
        let access = &config.listener(listener).access;
        self.limiter.admit(listener, client, access, &config.limits).ok()
    }

    /// Admits a connection from a proxy before its PROXY header has arrived. Returns `None` if too many such connections are
    /// open.
    pub fn admit_proxy(&self, listener: ListenerId, proxy: IpAddr) -> Option<PendingProxyPermit> {
        self.limiter.admit_proxy(listener, proxy, &self.config().limits).ok()
    }

    /// Checks a request on an open listener by its client's address, and returns the minimum rate for reading the response.
    ///
    /// # Errors
    /// Fails if the network may not connect or exceeds its request rate.
    pub fn check_request(
        &self,
        listener: ListenerId,
        client: IpAddr,
        counted_by: Option<&ClientBucket>,
    ) -> Result<MinRate, Rejection> {
        let config = self.config();
        if !config.listener(listener).access.permits(client) {
            self.limiter.count(RejectReason::Network);
            return Err(Rejection::Network);
        }
        if let Some(address) = counted_by {
            let requests = config.limits.requests_per_second;
            let acquired = address.try_acquire(requests);
            acquired.map_err(|wait| self.limiter.too_many_requests(client, requests, wait))?;
        }
        Ok(MinRate::new(config.limits.min_send_rate, config.limits.send_grace))
    }
}
