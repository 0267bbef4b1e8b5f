//! Configuration reload, on SIGHUP or when a certificate has been renewed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge::file::Reader;
use edge::telemetry::file::{LogFile, LogFileError};
use edge::telemetry::log::Log;
use thiserror::Error;
use tokio::sync::watch;

use crate::check;
use crate::config::{Config, ConfigError, Files, StoreConfig};
use crate::image_store::ImageStore;
use crate::metrics::{Metrics, UnopenedStore};
use crate::state::{SetUpError, State};
use crate::systemd;

/// The current [`State`], and the files it was built from.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    state: watch::Sender<Arc<State>>,
    /// Certificates and keys, as they were when they were loaded.
    files: Files,
    /// The files as they were when the last reload was rejected. The same files are neither retried nor logged again.
    refused: Option<Files>,
    every: Duration,
    reader: Reader,
    log: Rc<Log>,
    /// The addresses that are bound.
    listen: [(&'static str, Vec<SocketAddr>); 3],
    status_socket: Option<PathBuf>,
    store: Option<ImageStore>,
    /// The store that is open, or could not be opened.
    store_config: Option<StoreConfig>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Error)]
enum ReloadError {
    #[error("log.audit_file: {0}")]
    Audit(#[from] LogFileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot read the configuration or a file that it names: {0}; reload again when it does")]
    Hanging(io::Error),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

impl Reloader {
    /// Applies the initial configuration. Must be called on the main thread's runtime, like every method here.
    pub fn new(path: PathBuf, config: Config, log: Rc<Log>, metrics: Arc<Metrics>) -> Result<Self, SetUpError> {
        check::warn(&config);
        let store = config.store.as_ref().and_then(|config| open_store(config, &metrics));
        Ok(Self {
            path,
            store_config: config.store.clone(),
            store: store.clone(),
            files: config.files.clone(),
            refused: None,
            every: config.reload_interval,
            reader: Reader::default(),
            log,
            listen: listen(&config),
            status_socket: config.status_socket.clone(),
            metrics,
            state: watch::channel(Arc::new(State::new(config, store, None)?)).0,
        })
    }

    /// Returns a receiver for the current state and every later one.
    pub fn in_force(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    /// Waits for the next check for renewed certificates, one `reload.interval`.
    pub async fn time_to_look(&self) {
        tokio::time::sleep(self.every).await;
    }

    /// Reloads if a certificate or key has changed since it was loaded. Files that have already been rejected are skipped.
    pub async fn reload_what_is_renewed(&mut self) {
        let (files, all) = (self.files.clone(), self.files_of_a_reload());
        let now = match self.reader.run(move || (files.now() != files).then(|| all.now())).await {
            Ok(Some(now)) => now,
            Ok(None) => return,
            Err(error) => return tracing::warn!("cannot check for renewed certificates: {error}"),
        };
        if self.refused == Some(now) {
            tracing::debug!("the changed files are the ones already rejected");
            return;
        }
        tracing::info!("a certificate or key has changed");
        self.reload().await;
    }

    /// Reloads the configuration. An invalid one is rejected as a whole, and the old one stays in effect.
    pub async fn reload(&mut self) {
        systemd::reloading();
        let (path, files) = (self.path.clone(), self.files_of_a_reload());
        let (now, loaded) = match self.reader.run(move || (files.now(), load(&path))).await {
            Ok((now, loaded)) => (Some(now), loaded),
            Err(error) => (None, Err(ReloadError::Hanging(error))),
        };
        let in_force = loaded.and_then(|(config, audit)| self.bring_into_force(config, audit));
        self.metrics.reloaded(in_force.as_ref().err().map(ToString::to_string));
        match in_force {
            Ok(()) => {
                self.refused = None;
                tracing::info!("reloaded");
                systemd::ready("serving; reloaded");
            }
            Err(refusal) => {
                self.refused = now;
                tracing::error!("reload failed, the old configuration stays in effect: {refusal}");
                systemd::ready(&format!("serving; reload failed: {refusal}"));
            }
        }
    }

    fn bring_into_force(&mut self, config: Config, audit: Option<LogFile>) -> Result<(), ReloadError> {
        let last = Arc::clone(&self.state.borrow());
        let (files, every, listen) = (config.files.clone(), config.reload_interval, listen(&config));
        let status_socket = config.status_socket.clone();
        let store_config = config.store.clone();
        let log = config.log.clone();
        self.state
            .send_replace(Arc::new(State::new(config, self.store.clone(), Some(&last))?));
        self.log.reload(&log, audit);
        (self.files, self.every) = (files, every);
        if self.status_socket != status_socket {
            tracing::warn!("status.socket has changed; restart the gateway to apply it");
        }
        if self.store_config != store_config {
            tracing::warn!("[store] has changed; restart the gateway to apply it");
        }
        for ((table, bound), (_, wanted)) in self.listen.iter().zip(&listen) {
            if bound != wanted {
                tracing::warn!(
                    "{table}.listen has changed to {wanted:?}; restart the gateway to apply it; until then it listens on {bound:?}"
                );
            }
        }
        Ok(())
    }

    /// Returns every file that a reload reads. It includes proxy.toml, because an administrator who fixes it after a rejection
    /// expects the rejected certificates to be retried.
    fn files_of_a_reload(&self) -> Files {
        let mut files = self.files.clone();
        files.add(self.path.clone());
        files
    }
}

/// Loads everything that requires the file system.
fn load(path: &Path) -> Result<(Config, Option<LogFile>), ReloadError> {
    let config = Config::load(path)?;
    check::warn(&config);
    let audit = Log::open_audit(&config.log)?;
    Ok((config, audit))
}

/// Opens the store. Without it, all images are streamed from Incus.
fn open_store(config: &StoreConfig, metrics: &Metrics) -> Option<ImageStore> {
    let opened = ImageStore::open(config).map_err(|error| error.to_string());
    opened
        .inspect_err(|problem| {
            tracing::warn!("store.directory: {problem}; images are streamed from Incus until the gateway is restarted");
            let (config, problem) = (config.clone(), problem.clone());
            metrics.store_is_unopened(UnopenedStore { config, problem });
        })
        .ok()
}

fn listen(config: &Config) -> [(&'static str, Vec<SocketAddr>); 3] {
    [
        ("public", config.public.listen.clone()),
        ("admin", config.admin.listen.clone()),
        ("metrics", config.metrics.clone()),
    ]
}
