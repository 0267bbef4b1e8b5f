//! Startup, signal handling, and the drain on SIGTERM.
//!
//! The configuration is loaded, the ports are bound and the process is sandboxed before any worker starts. After that, the
//! main thread only handles signals, refreshes the catalogue and serves the monitoring endpoints; each worker serves
//! connections on its own thread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use edge::accept::accept;
use edge::admission::fd_limit;
use edge::listener::{self, BindError, InheritError, Inherited, ListeningSocket};
use edge::listener_id::ListenerId;
use edge::shutdown::Shutdown;
use edge::telemetry::file::LogFileError;
use edge::telemetry::log::Log;
use edge::telemetry::stranger_log::StrangerLog;
use edge::worker;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::Config;
use crate::image_store;
use crate::metrics::Metrics;
use crate::metrics::exposition::Exporter;
use crate::metrics::health::Health;
use crate::metrics::server::{self, PublicHandler};
use crate::mount::Shared;
use crate::reload::Reloader;
use crate::sandbox;
use crate::state::SetUpError;
use crate::status::owner::PrivilegedHandler;
use crate::status::report_builder::StaticInfo;
use crate::status::socket;
use crate::systemd::{self, Heartbeat, Watchdog};

/// How long workers have to log the requests that an immediate shutdown aborts.
const ABORT_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why the gateway cannot start or did not shut down cleanly.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error("log.audit_file: {0}")]
    Audit(#[from] LogFileError),
    #[error("{key}: {0}", key = .0.key())]
    Bind(#[from] BindError),
    #[error("terminated by a second signal; open requests were aborted")]
    CutShort,
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("a system call failed: {0}")]
    Io(#[from] io::Error),
    #[error("aborted the connections that were still open after {} s", .0.as_secs())]
    NotDrained(Duration),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

/// Runs the gateway until a signal ends it.
pub fn run(path: PathBuf, config: Config, log: Rc<Log>) -> Result<(), RunError> {
    log.reload(&config.log, Log::open_audit(&config.log)?);
    fd_limit::raise();
    let mut inherited = Inherited::from_environment(&[&*config.public.listen, &config.admin.listen].concat())?;
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        listeners.extend(ListeningSocket::open(listener.id, &listener.addresses, &mut inherited)?);
    }
    let observers = listener::bind("metrics", &config.metrics)?;
    let status = socket::open(config.status_socket.as_deref());
    if let Some(store) = &config.store
        && let Err(error) = image_store::create_directory(store)
    {
        // Opening the store fails, too, and says what follows.
        tracing::warn!("store.directory: cannot create {}: {error}", store.directory.display());
    }
    // The CPU quota is read from cgroup files, which the sandbox makes unreadable.
    let cores = thread::available_parallelism()?;
    sandbox::enter(&path, &config);
    log.write_apart()?;
    let sockets = Sockets {
        listeners,
        observers,
        status,
    };
    worker::runtime()?.block_on(run_control_loop(path, config, log, sockets, cores))
}

/// All bound sockets.
struct Sockets {
    listeners: Vec<ListeningSocket>,
    observers: Vec<TcpListener>,
    status: Option<UnixListener>,
}

async fn run_control_loop(
    path: PathBuf,
    config: Config,
    log: Rc<Log>,
    sockets: Sockets,
    cores: NonZero<usize>,
) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let Sockets {
        listeners,
        observers,
        status,
    } = sockets;
    let facts = StaticInfo {
        file: path.clone(),
        addresses: addresses(&listeners)?,
        metrics: observers
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?,
    };
    let ids: Vec<_> = config.listeners.iter().map(|listener| listener.id).collect();
    let strangers = Arc::new(StrangerLog::new(&ids));
    let metrics = Arc::new(Metrics::new(ids));
    let mut reloader = Reloader::new(path, config, log, Arc::clone(&metrics))?;
    let shared = Shared {
        state: reloader.in_force(),
        limiter: Arc::default(),
        metrics,
        shutdown: Shutdown::default(),
        rejected: Arc::default(),
        strangers,
    };
    let mut watchdog = Watchdog::default();
    let mut workers = start_workers(cores, &shared, &listeners, &mut watchdog)?;
    let watchdog = Rc::new(watchdog);
    let (fed, shutdown) = (Rc::clone(&watchdog), shared.shutdown.clone());
    tokio::task::spawn_local(async move { fed.run(shutdown).await });
    for (port, address) in &facts.addresses {
        tracing::info!(%port, %address, "listening");
    }
    serve_monitoring(observers, status, facts, &shared, watchdog)?;
    // The workers have their own copies of these sockets. Open ones here would keep the ports open during a drain.
    drop(listeners);
    tracing::info!("ready");
    systemd::ready("serving");

    loop {
        let is_requested = tokio::select! {
            event = signals.next() => match event {
                SignalEvent::End => break,
                SignalEvent::Reload => true,
            },
            () = reloader.time_to_look() => false,
        };
        let reload = async {
            match is_requested {
                true => reloader.reload().await,
                false => reloader.reload_what_is_renewed().await,
            }
        };
        // Reading its files can be slow, so a termination signal interrupts it.
        tokio::select! {
            biased;
            () = signals.end() => break,
            () = reload => {}
        }
    }

    let limit = reloader.in_force().borrow().edge.limits.drain_timeout;
    tracing::info!("draining for up to {} s", limit.as_secs());
    systemd::stopping(limit);
    shared.shutdown.drain();
    let error = tokio::select! {
        // Each worker drops its sender when it has finished.
        _ = workers.recv() => {
            tracing::info!("drained");
            return Ok(());
        }
        () = tokio::time::sleep(limit) => RunError::NotDrained(limit),
        () = signals.end() => RunError::CutShort,
    };
    shared.shutdown.cut();
    // Aborted requests are still logged, unless a worker hangs.
    let _ = timeout(ABORT_LOG_TIMEOUT, workers.recv()).await;
    Err(error)
}

/// Serves metrics, health and status until the process ends, so that a drain can be observed.
fn serve_monitoring(
    sockets: Vec<TcpListener>,
    status: Option<UnixListener>,
    facts: StaticInfo,
    shared: &Shared,
    watchdog: Rc<Watchdog>,
) -> io::Result<()> {
    let health = Health::new(shared.state.clone(), watchdog, shared.shutdown.clone());
    let exporter = Rc::new(Exporter::new(
        shared.state.clone(),
        Arc::clone(&shared.limiter),
        Arc::clone(&shared.metrics),
        Arc::clone(&shared.rejected),
        health,
    ));
    for socket in sockets {
        tracing::info!(port = %"metrics", address = %socket.local_addr()?, "listening");
        let listener = tokio::net::TcpListener::from_std(socket)?;
        tokio::task::spawn_local(server::serve(listener, Rc::new(PublicHandler(Rc::clone(&exporter)))));
    }
    if let Some(socket) = status {
        let listener = tokio::net::UnixListener::from_std(socket)?;
        tokio::task::spawn_local(server::serve(listener, Rc::new(PrivilegedHandler { exporter, facts })));
    }
    Ok(())
}

fn addresses(listeners: &[ListeningSocket]) -> io::Result<Vec<(ListenerId, SocketAddr)>> {
    let each = listeners.iter();
    each.map(|listener| Ok((listener.listener(), listener.address()?)))
        .collect()
}

fn start_workers(
    cores: NonZero<usize>,
    shared: &Shared,
    listeners: &[ListeningSocket],
    watchdog: &mut Watchdog,
) -> io::Result<mpsc::Receiver<()>> {
    let (finished, workers) = mpsc::channel(1);
    for number in 0..cores.get() {
        let listeners = listeners
            .iter()
            .map(ListeningSocket::try_clone)
            .collect::<io::Result<Vec<_>>>()?;
        let (shared, heartbeat, finished) = (shared.clone(), watchdog.pulse(), finished.clone());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // A worker's runtime is not `Send`, so its own thread creates it.
            match worker::runtime() {
                Ok(runtime) => {
                    let _ = sender.send(Ok(()));
                    runtime.block_on(work(shared, heartbeat, listeners));
                }
                Err(error) => drop(sender.send(Err(error))),
            }
            drop(finished);
        })?;
        receiver.recv().map_err(io::Error::other)??;
    }
    Ok(workers)
}

async fn work(shared: Shared, heartbeat: Heartbeat, sockets: Vec<ListeningSocket>) {
    let (worker, listeners) = shared.start_worker();
    tokio::task::spawn_local(heartbeat.beat());
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let listener = Rc::clone(&listeners[socket.listener().index()]);
            tokio::task::spawn_local(accept(socket, listener, Rc::clone(&worker)))
        })
        .collect();
    for task in accepting {
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a worker cannot accept connections"),
            Err(error) => tracing::error!(%error, "a worker stopped accepting connections"),
        }
    }
    worker.shutdown().finish().await;
}

#[derive(Debug, Eq, PartialEq)]
enum SignalEvent {
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

    async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            _ = self.hangup.recv() => SignalEvent::Reload,
            _ = self.interrupt.recv() => SignalEvent::End,
            _ = self.terminate.recv() => SignalEvent::End,
        }
    }

    /// Waits for a signal that ends the process. A SIGHUP stays pending.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
