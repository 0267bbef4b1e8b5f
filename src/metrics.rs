//! What is counted, for Prometheus to scrape, and whether all is well, for who asks.
//!
//! Each worker counts in [`Counts`] of its own, which nobody else writes: a request costs a few additions, whether anybody
//! scrapes or not. Only a scrape adds the workers' figures up, in [`export`], on the main thread. What is counted is known
//! beforehand, for each [`label`] has a closed set of values: strangers cannot make it grow.
//!
//! [`server`] answers on the listener of `[metrics]`, with [`health`] beside the figures.

pub mod counts;
pub mod export;
pub mod handshake;
pub mod health;
pub mod label;
pub mod question;
pub mod server;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::counts::Counts;

/// The figures of the whole process.
#[derive(Debug)]
pub struct Metrics {
    started: Duration,
    workers: Mutex<Vec<Arc<Counts>>>,
    reload_succeeded: AtomicBool,
    /// Of the last reload that succeeded, in seconds since 1970.
    reloaded: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let now = since_1970();
        Self {
            started: now,
            workers: Mutex::default(),
            reload_succeeded: AtomicBool::new(true),
            reloaded: AtomicU64::new(now.as_secs()),
        }
    }
}

impl Metrics {
    /// For one more worker to count in.
    pub fn of_worker(&self) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&counts));
        counts
    }

    /// Notes what has come of a reload.
    pub fn reloaded(&self, succeeded: bool) {
        self.reload_succeeded.store(succeeded, Ordering::Relaxed);
        if succeeded {
            self.reloaded.store(since_1970().as_secs(), Ordering::Relaxed);
        }
    }

    fn workers(&self) -> Vec<Arc<Counts>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
