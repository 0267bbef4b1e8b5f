//! Whether all is well, as of this moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::systemd::Watchdog;
use crate::upstream::{ServerInfo, Upstream};

/// For every worker to answer.
const WORKERS: Duration = Duration::from_secs(2);
/// For Incus to answer, so that whoever asks us need not wait for longer than they may.
const INCUS: Duration = Duration::from_secs(4);
/// However many ask us, Incus is not asked more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// What is not well.
#[derive(Clone, Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("{0}")]
    Away(String),
    #[error("draining")]
    Draining,
    #[error("a worker does not answer")]
    Hangs,
    #[error(
        "Incus does not trust upstream.client_certificate; run `incus config trust add-certificate` with that file"
    )]
    Untrusted,
}

/// Looks after it, on the main thread.
#[derive(Debug)]
pub struct Health {
    state: watch::Receiver<Arc<State>>,
    workers: Rc<Watchdog>,
    drain: CancellationToken,
    /// Held while Incus is asked: who comes meanwhile gets the same answer.
    incus: Mutex<Option<(Instant, Result<ServerInfo, Problem>)>>,
    upstream: RefCell<Option<Rc<Upstream>>>,
}

impl Health {
    /// Asks nobody yet.
    pub fn new(state: watch::Receiver<Arc<State>>, workers: Rc<Watchdog>, drain: CancellationToken) -> Self {
        Self {
            state,
            workers,
            drain,
            incus: Mutex::default(),
            upstream: RefCell::default(),
        }
    }

    /// Whether every worker answers.
    pub async fn alive(&self) -> Result<(), Problem> {
        match timeout(WORKERS, self.workers.ask_everyone(&self.drain)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Problem::Hangs),
        }
    }

    /// Whether requests are welcome, and Incus will answer them.
    pub async fn ready(&self) -> Result<(), Problem> {
        if self.drain.is_cancelled() {
            return Err(Problem::Draining);
        }
        self.alive().await?;
        self.incus().await.map(drop)
    }

    /// What Incus says, if it answers, and trusts us.
    pub async fn incus(&self) -> Result<ServerInfo, Problem> {
        let mut last = self.incus.lock().await;
        match &*last {
            Some((asked, answer)) if asked.elapsed() < PAUSE => answer.clone(),
            _ => {
                let answer = self.ask_incus().await;
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    async fn ask_incus(&self) -> Result<ServerInfo, Problem> {
        let about = self.upstream().about(INCUS).await;
        let about = about.map_err(|error| Problem::Away(error.to_string()))?;
        about.is_trusted.then_some(about).ok_or(Problem::Untrusted)
    }

    fn upstream(&self) -> Rc<Upstream> {
        let target = Arc::clone(&self.state.borrow().target);
        let mut upstream = self.upstream.borrow_mut();
        match &*upstream {
            Some(upstream) if upstream.is_for(&target) => Rc::clone(upstream),
            _ => Rc::clone(upstream.insert(Rc::new(Upstream::new(target)))),
        }
    }
}
