//! The configured Incus server, and the last error from it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::Instant;

use super::config::UpstreamConfig;
use super::error::Error;
use super::metrics::UpstreamMetrics;
use crate::tls::upstream::{Pin, client_config};

/// The Incus server that a configuration names. All workers share it.
#[derive(Debug)]
pub struct Target {
    url: String,
    client: CertificateDer<'static>,
    pin: Arc<Pin>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) server_name: ServerName<'static>,
    pub(super) host_header: HeaderValue,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) proxy_protocol: bool,
    counts: Arc<UpstreamMetrics>,
    trouble: Mutex<LastError>,
}

/// The current error and the time of the last one.
#[derive(Debug, Default)]
struct LastError {
    /// The current error, so that the log contains only changes.
    present: Option<String>,
    last: Option<Instant>,
}

impl Target {
    /// Creates a target, without a connection.
    ///
    /// # Panics
    /// Panics if `config.authority` is not a valid header value.
    pub fn new(config: &UpstreamConfig, counts: Arc<UpstreamMetrics>) -> Self {
        Self {
            url: config.url.clone(),
            client: config.identity.certificate().clone(),
            pin: Arc::clone(&config.pin),
            host: config.host.clone(),
            port: config.port,
            server_name: config.server_name.clone(),
            host_header: HeaderValue::from_str(&config.authority).expect("a URL's authority is a valid header value"),
            tls: Arc::new(client_config(&config.identity, Arc::clone(&config.pin))),
            proxy_protocol: config.proxy_protocol,
            counts,
            trouble: Mutex::default(),
        }
    }

    /// Returns whether a configuration has the same URL, certificates and PROXY protocol setting.
    pub fn is_of(&self, config: &UpstreamConfig) -> bool {
        self.url == config.url
            && self.client == *config.identity.certificate()
            && self.pin.is_same(&config.pin)
            && self.proxy_protocol == config.proxy_protocol
    }

    /// Returns the client that Incus attributes a connection to, if it is told.
    pub(super) fn proxied_addr(&self, client: Option<SocketAddr>) -> Option<IpAddr> {
        client.filter(|_| self.proxy_protocol).map(|client| client.ip())
    }

    /// Returns the metrics, which include those of earlier targets.
    pub fn counts(&self) -> &Arc<UpstreamMetrics> {
        &self.counts
    }

    /// Returns the certificate that Incus must present, if one is pinned.
    pub fn pinned(&self) -> Option<CertificateDer<'static>> {
        self.pin.certificate()
    }

    /// Returns the configured URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Logs a change of the error, once for any number of requests that meet the same error.
    pub(super) fn note(&self, trouble: Option<&Error>) {
        let mut known = self.trouble();
        if trouble.is_some() {
            known.last = Some(Instant::now());
        }
        match (trouble.map(ToString::to_string), known.present.is_some()) {
            (None, false) => {}
            (None, true) => {
                known.present = None;
                tracing::info!(address = self.address(), "Incus is available again");
            }
            (Some(trouble), _) if known.present.as_ref() == Some(&trouble) => {}
            (Some(trouble), _) => {
                tracing::warn!("{trouble}");
                known.present = Some(trouble);
            }
        }
    }

    /// Returns whether no error has occurred since `then`.
    pub(super) fn has_no_error_since(&self, then: Instant) -> bool {
        self.trouble().last.is_none_or(|last| last < then)
    }

    fn trouble(&self) -> MutexGuard<'_, LastError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
