//! Start, SIGHUP reload, SIGTERM drain.
//!
//! The configuration is loaded and both ports are bound before any worker starts. The main thread then only waits for
//! signals and keeps the catalogue; each worker serves on a thread of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::listener::{BindError, Listener};
use crate::live::{Live, SetUpError};
use crate::net::Port;
use crate::worker::{self, Worker};

/// Why the gateway does not run.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error("{key}: {0}", key = .0.key())]
    Bind(#[from] BindError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("ended at once by a second signal; what was under way has been cut")]
    CutShort,
    #[error("the system refuses what every program may do: {0}")]
    Io(#[from] io::Error),
    #[error("connections were still open after {} s and have been cut", .0.as_secs())]
    NotDrained(std::time::Duration),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

/// Runs the gateway until a signal ends it.
pub fn run(path: PathBuf, config: Config) -> Result<(), RunError> {
    let mut listeners = Listener::bind(Port::Public, &config.public.listen)?;
    listeners.extend(Listener::bind(Port::Admin, &config.admin.listen)?);
    worker::runtime()?.block_on(govern(path, config, listeners))
}

async fn govern(path: PathBuf, config: Config, listeners: Vec<Listener>) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    if config.upstream.pin.certificate().is_none() {
        tracing::warn!(
            "upstream.server_certificate is not set: whoever listens at {} on this machine is taken for Incus",
            config.upstream.url
        );
    }
    if config.admin.clients.is_empty() {
        tracing::warn!("admin.clients is empty: the admin port refuses everybody");
    }
    let (live, in_force) = watch::channel(Arc::new(Live::new(config, None)?));
    let drain = CancellationToken::new();
    let mut workers = start_workers(&in_force, &drain, &listeners)?;
    for listener in &listeners {
        tracing::info!("listening port={} address={}", listener.port(), listener.address()?);
    }
    // The workers have sockets of their own; these must not keep the ports open in a drain.
    drop(listeners);
    tracing::info!("ready");

    while signals.next().await == Asked::Reload {
        reload(&path, &live);
    }

    let limit = live.borrow().limits.drain;
    tracing::info!("draining for up to {} s", limit.as_secs());
    drain.cancel();
    tokio::select! {
        // Each worker drops its sender when it has finished.
        _ = workers.recv() => {
            tracing::info!("drained");
            Ok(())
        }
        () = tokio::time::sleep(limit) => Err(RunError::NotDrained(limit)),
        () = signals.end() => Err(RunError::CutShort),
    }
}

/// A wrong new configuration is refused whole, and the old one runs on.
fn reload(path: &Path, live: &watch::Sender<Arc<Live>>) {
    let last = Arc::clone(&live.borrow());
    let fresh = Config::load(path)
        .map_err(RunError::from)
        .and_then(|config| Ok(Live::new(config, Some(&last))?));
    match fresh {
        Ok(fresh) => {
            live.send_replace(Arc::new(fresh));
            tracing::info!("reloaded; a change of the listen addresses needs a restart");
        }
        Err(error) => tracing::error!("reload refused, the old configuration runs on: {error}"),
    }
}

fn start_workers(
    live: &watch::Receiver<Arc<Live>>,
    drain: &CancellationToken,
    listeners: &[Listener],
) -> io::Result<mpsc::Receiver<()>> {
    let (finished, workers) = mpsc::channel(1);
    for number in 0..thread::available_parallelism()?.get() {
        let listeners = listeners
            .iter()
            .map(Listener::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let (live, drain, finished) = (live.clone(), drain.clone(), finished.clone());
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // A worker's runtime never leaves its thread, so it has to be made there.
            match worker::runtime() {
                Ok(runtime) => {
                    let _ = tell.send(Ok(()));
                    runtime.block_on(work(live, drain, listeners));
                }
                Err(error) => drop(tell.send(Err(error))),
            }
            drop(finished);
        })?;
        told.recv().map_err(io::Error::other)??;
    }
    Ok(workers)
}

async fn work(live: watch::Receiver<Arc<Live>>, drain: CancellationToken, listeners: Vec<Listener>) {
    let worker = Worker::start(live, drain);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::task::spawn_local(listener.accept(worker.clone())))
        .collect();
    for task in accepting {
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a worker cannot accept connections"),
            Err(error) => tracing::error!(%error, "a worker has stopped accepting connections"),
        }
    }
    worker.finish().await;
}

#[derive(Debug, Eq, PartialEq)]
enum Asked {
    End,
    Reload,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
        }
    }

    async fn end(&mut self) {
        while self.next().await == Asked::Reload {}
    }
}
