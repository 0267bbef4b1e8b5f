//! What is counted, for Prometheus to scrape, and whether all is well, for who asks.
//!
//! Each worker counts in [`WorkerMetrics`] of its own, which nobody else writes: a request costs a few additions, whether anybody
//! scrapes or not. Only a scrape adds the workers' figures up, in [`export`], on the main thread. What is counted is known
//! beforehand, for each [`label`] has a closed set of values: strangers cannot make it grow.
//!
//! [`server`] answers on the listener of `[metrics]`, with [`health`] beside the figures, and on that of `[status]`.

pub mod counts;
pub mod endpoint;
pub mod exposition;
pub mod handshake_outcome;
pub mod health;
pub mod server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::counts::WorkerMetrics;

/// The figures of the whole process.
#[derive(Debug)]
pub struct Metrics {
    started: Duration,
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    reload: Mutex<Reload>,
}

/// What became of the last reload. Times are in seconds since 1970.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When the configuration in force was loaded.
    pub in_force_since: u64,
    /// When one was refused since, and why.
    pub refused: Option<(u64, String)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let now = since_1970();
        Self {
            started: now,
            workers: Mutex::default(),
            reload: Mutex::new(Reload {
                in_force_since: now.as_secs(),
                refused: None,
            }),
        }
    }
}

impl Metrics {
    /// For one more worker to count in.
    pub fn of_worker(&self) -> Arc<WorkerMetrics> {
        let counts = Arc::<WorkerMetrics>::default();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&counts));
        counts
    }

    /// Notes what has come of a reload.
    pub fn reloaded(&self, refused: Option<String>) {
        let now = since_1970().as_secs();
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_none() {
            reload.in_force_since = now;
        }
        reload.refused = refused.map(|why| (now, why));
    }

    /// What has come of the last one.
    pub fn reload(&self) -> Reload {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the process was started, since 1970.
    pub fn started(&self) -> Duration {
        self.started
    }

    fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Now.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
