//! Health checks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge::shutdown::Shutdown;
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use crate::server_info::ServerInfo;
use crate::state::{CurrentUpstream, State};
use crate::systemd::Watchdog;

/// Timeout for all workers to respond.
const WORKERS: Duration = Duration::from_secs(2);
/// Timeout for Incus to respond. It is shorter than the timeout of a health check.
const INCUS: Duration = Duration::from_secs(4);
/// Minimum time between two queries to Incus, however many health checks there are.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a health check fails.
#[derive(Clone, Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("{0}")]
    Away(String),
    #[error("draining")]
    Draining,
    #[error("a worker does not respond")]
    Hangs,
    #[error(
        "Incus does not trust upstream.client_certificate; run `incus config trust add-certificate` with that file"
    )]
    Untrusted,
}

/// Runs health checks. Lives on the main thread.
#[derive(Debug)]
pub struct Health {
    workers: Rc<Watchdog>,
    shutdown: Shutdown,
    /// Result of the last query. The lock is held during a query, so that concurrent health checks share its result.
    incus: Mutex<Option<(Instant, Result<ServerInfo, Problem>)>>,
    upstream: CurrentUpstream,
}

impl Health {
    /// Creates the health checks without running any.
    pub fn new(state: watch::Receiver<Arc<State>>, workers: Rc<Watchdog>, shutdown: Shutdown) -> Self {
        Self {
            workers,
            shutdown,
            incus: Mutex::default(),
            upstream: CurrentUpstream::new(state),
        }
    }

    /// Checks that every worker responds.
    ///
    /// # Errors
    ///
    /// Fails with [`Problem::Hangs`] if one does not.
    pub async fn alive(&self) -> Result<(), Problem> {
        match timeout(WORKERS, self.workers.ask_everyone(&self.shutdown)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Problem::Hangs),
        }
    }

    /// Checks that the gateway accepts requests, and that Incus is available.
    ///
    /// # Errors
    ///
    /// Fails with the first [`Problem`] found.
    pub async fn ready(&self) -> Result<(), Problem> {
        if self.shutdown.is_draining() {
            return Err(Problem::Draining);
        }
        self.alive().await?;
        self.incus().await.map(drop)
    }

    /// Returns information about Incus, at most a second old.
    ///
    /// # Errors
    ///
    /// Fails if Incus does not respond, or does not trust the gateway's certificate.
    pub async fn incus(&self) -> Result<ServerInfo, Problem> {
        let mut last = self.incus.lock().await;
        match &*last {
            Some((at, answer)) if at.elapsed() < PAUSE => answer.clone(),
            _ => {
                let answer = self.ask_incus().await;
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    async fn ask_incus(&self) -> Result<ServerInfo, Problem> {
        let about = ServerInfo::fetch(&self.upstream.get(), INCUS).await;
        let about = about.map_err(|error| Problem::Away(error.to_string()))?;
        about.is_trusted.then_some(about).ok_or(Problem::Untrusted)
    }
}
