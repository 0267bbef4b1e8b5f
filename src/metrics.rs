//! Metrics for Prometheus, and health checks.
//!
//! Each worker counts in a [`WorkerMetrics`] of its own, which no other thread writes: a request costs a few
//! uncontended additions, whether or not Prometheus scrapes. A scrape adds up the workers' counters, in [`exposition`],
//! on the main thread. Each [`label`] has a closed set of values, so clients cannot create new time series.
//!
//! [`server`] serves the metrics and the [`health`] checks on the listeners of `[metrics]` and `[status]`.

pub mod endpoint;
pub mod exposition;
pub mod health;
pub mod server;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge::listener_id::ListenerId;
use edge::metrics::WorkerMetrics;

use self::endpoint::Endpoint;
use crate::config::StoreConfig;

/// The metrics of the whole process.
#[derive(Debug)]
pub struct Metrics {
    started: Duration,
    listeners: Vec<ListenerId>,
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    reload: Mutex<Reload>,
    unopened_store: OnceLock<UnopenedStore>,
}

/// The store that is configured, but could not be opened.
#[derive(Clone, Debug)]
pub struct UnopenedStore {
    /// Where it would be, and how large it might become.
    pub config: StoreConfig,
    /// Why it could not be opened.
    pub problem: String,
}

/// Result of the last reload. Times are Unix times in seconds.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When the active configuration was loaded.
    pub in_force_since: u64,
    /// Time and error of a later reload that failed.
    pub refused: Option<(u64, String)>,
}

impl Metrics {
    /// Creates the metrics of these listeners, without a worker.
    pub fn new(listeners: Vec<ListenerId>) -> Self {
        let now = since_1970();
        Self {
            started: now,
            listeners,
            workers: Mutex::default(),
            reload: Mutex::new(Reload {
                in_force_since: now.as_secs(),
                refused: None,
            }),
            unopened_store: OnceLock::new(),
        }
    }

    /// Creates the metrics of another worker.
    pub fn of_worker(&self) -> Arc<WorkerMetrics> {
        let counts = Arc::new(WorkerMetrics::new::<Endpoint>(self.listeners.len()));
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&counts));
        counts
    }

    /// Records the result of a reload: the error, or `None` on success.
    pub fn reloaded(&self, refused: Option<String>) {
        let now = since_1970().as_secs();
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_none() {
            reload.in_force_since = now;
        }
        reload.refused = refused.map(|why| (now, why));
    }

    /// Result of the last reload.
    pub fn reload(&self) -> Reload {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that the store could not be opened.
    pub fn store_is_unopened(&self, store: UnopenedStore) {
        // The store is opened once, at the start.
        let _ = self.unopened_store.set(store);
    }

    /// The store, if it could not be opened.
    pub fn unopened_store(&self) -> Option<&UnopenedStore> {
        self.unopened_store.get()
    }

    /// Start of the process, as a Unix time.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// All listeners.
    pub fn listeners(&self) -> &[ListenerId] {
        &self.listeners
    }

    fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Current Unix time.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
