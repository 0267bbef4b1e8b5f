//! A new configuration takes the old one's place: asked for by SIGHUP, or because a certificate has been renewed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::check;
use crate::config::{Config, ConfigError, Files};
use crate::live::{Live, SetUpError};
use crate::metrics::Metrics;
use crate::net::Port;
use crate::systemd;
use crate::telemetry::file::LogFileError;
use crate::telemetry::log::Log;

/// What is in force, and what it was made of.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    live: watch::Sender<Arc<Live>>,
    /// Certificates and keys as they were when they were loaded.
    files: Files,
    /// What was there when the last reload was refused: the same again need not be tried, nor told.
    refused: Option<Files>,
    every: Duration,
    log: Rc<Log>,
    /// As it was bound.
    listen: [(&'static str, Vec<SocketAddr>); 3],
    status_socket: Option<PathBuf>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Error)]
enum Refusal {
    #[error("log.audit: {0}")]
    Audit(#[from] LogFileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

impl Reloader {
    /// Puts the first configuration in force. Like everything here, it must be called on the main thread's runtime.
    pub fn new(path: PathBuf, config: Config, log: Rc<Log>, metrics: Arc<Metrics>) -> Result<Self, SetUpError> {
        check::warn(&config);
        Ok(Self {
            path,
            files: config.files.clone(),
            refused: None,
            every: config.reload_every,
            log,
            listen: listen(&config),
            status_socket: config.status_socket.clone(),
            metrics,
            live: watch::channel(Arc::new(Live::new(config, None)?)).0,
        })
    }

    /// What is in force, and all that will be.
    pub fn in_force(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// Waits until it is time to look whether a certificate has been renewed.
    pub async fn time_to_look(&self) {
        tokio::time::sleep(self.every).await;
    }

    /// Reloads if a certificate or key has changed since it was loaded, but not what has been refused already.
    pub fn reload_what_is_renewed(&mut self) {
        if self.files.now() == self.files {
            return;
        }
        if self.refused == Some(self.now()) {
            tracing::debug!("what has changed is still what was refused");
            return;
        }
        tracing::info!("a certificate or key has changed");
        self.reload();
    }

    /// A wrong new configuration is refused whole, and the old one runs on.
    pub fn reload(&mut self) {
        systemd::reloading();
        let now = self.now();
        let last = Arc::clone(&self.live.borrow());
        let loaded = self.load(&last);
        self.metrics.reloaded(loaded.as_ref().err().map(ToString::to_string));
        match loaded {
            Ok(()) => {
                self.refused = None;
                tracing::info!("reloaded");
                systemd::ready("serving; reloaded");
            }
            Err(refusal) => {
                self.refused = Some(now);
                tracing::error!("reload refused, the old configuration runs on: {refusal}");
                systemd::ready(&format!("serving; reload refused: {refusal}"));
            }
        }
    }

    fn load(&mut self, last: &Live) -> Result<(), Refusal> {
        let config = Config::load(&self.path)?;
        check::warn(&config);
        let (files, every, listen) = (config.files.clone(), config.reload_every, listen(&config));
        let status_socket = config.status_socket.clone();
        let (log, audit) = (config.log.clone(), Log::open_audit(&config.log)?);
        self.live.send_replace(Arc::new(Live::new(config, Some(last))?));
        self.log.reload(&log, audit);
        (self.files, self.every) = (files, every);
        if self.status_socket != status_socket {
            tracing::warn!("status.socket has changed: this needs a restart");
        }
        for ((table, bound), (_, wanted)) in self.listen.iter().zip(&listen) {
            if bound != wanted {
                tracing::warn!(
                    "{table}.listen is {wanted:?} now: this needs a restart; until then the gateway listens on {bound:?}"
                );
            }
        }
        Ok(())
    }

    /// Everything that a reload would read. Whoever mends proxy.toml after a refusal means to have what was refused.
    fn now(&self) -> Files {
        let mut now = self.files.now();
        now.note(self.path.clone());
        now
    }
}

fn listen(config: &Config) -> [(&'static str, Vec<SocketAddr>); 3] {
    [
        (Port::Public.name(), config.public.listen.clone()),
        (Port::Admin.name(), config.admin.listen.clone()),
        ("metrics", config.metrics.clone()),
    ]
}
