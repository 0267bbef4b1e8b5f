//! The current configuration and everything derived from it. A reload replaces it as a whole.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::admission::{IpAllowList, fd_limit};
use crate::cidr::CidrSet;
use crate::config::{Config, CredentialMatcher, Page};
use crate::identity::AdminRegistry;
use crate::limits::Limits;
use crate::port::Port;
use crate::public::catalogue::Catalogue;
use crate::tls::certificate::Validity;
use crate::tls::chain::{self, ChainFault};
use crate::tls::{CertifiedKey, server};
use crate::upstream::Target;

/// Everything that is derived from one configuration.
#[derive(Debug)]
pub struct State {
    /// Configuration of the public port.
    pub public: ListenerConfig,
    /// Configuration of the admin port.
    pub admin: ListenerConfig,
    /// The administrators.
    pub admins: AdminRegistry,
    /// The images that strangers may see.
    pub catalogue: Catalogue,
    /// The web page with these images, if enabled.
    pub page: Option<Page>,
    /// The Incus server.
    pub target: Arc<Target>,
    /// Limits per client and in total.
    pub limits: Limits,
    expiries: Vec<Expiry>,
    servers: [(&'static str, CertifiedKey); 2],
}

/// Expiry of a certificate.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The configuration key that names it.
    pub certificate: &'static str,
    /// The administrator's name, for an entry of `admin.clients`.
    pub admin: Option<Arc<str>>,
    /// In seconds since 1970.
    pub at: i64,
}

impl Expiry {
    /// Returns `None` if the certificate cannot be parsed. Such a certificate authorizes nobody.
    fn of(key: &'static str, admin: Option<&Arc<str>>, certificate: &CertificateDer<'_>) -> Option<Self> {
        Some(Self {
            certificate: key,
            admin: admin.cloned(),
            at: Validity::of(certificate).ok()?.not_after(),
        })
    }
}

/// Configuration of one port.
#[derive(Debug)]
pub struct ListenerConfig {
    /// Server certificate.
    pub tls: Arc<ServerConfig>,
    /// Client addresses that may connect.
    pub access: IpAllowList,
    /// The proxies in front of the port, which send a PROXY header.
    pub proxies: CidrSet,
}

/// The configuration is valid, but setting up TLS with it failed.
#[derive(Debug, Error)]
#[error("cannot initialize TLS: {0}")]
pub struct SetUpError(#[from] rustls::Error);

impl State {
    /// Derives the state. Spawns the catalogue's refresh task on the current runtime, which ends when the state is dropped.
    ///
    /// If `last` has the same Incus server, its connections and its image data are kept: a reload has no cost for clients,
    /// not even while Incus is unavailable.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up.
    pub fn new(config: Config, last: Option<&Self>) -> Result<Self, SetUpError> {
        let target = match last {
            Some(last) if last.target.is_of(&config.upstream) => Arc::clone(&last.target),
            last => {
                let counts = last.map(|last| Arc::clone(last.target.counts()));
                Arc::new(Target::new(&config.upstream, counts.unwrap_or_default()))
            }
        };
        let expiries = expiries(&config);
        let servers = [
            ("public.tls", config.public.tls.clone()),
            ("admin.tls", config.admin.tls.clone()),
        ];
        Ok(Self {
            expiries,
            servers,
            public: ListenerConfig {
                tls: Arc::new(server::public_config(&config.public.tls)?),
                access: config.public.access.clone(),
                proxies: config.public.proxies.clone(),
            },
            admin: ListenerConfig {
                tls: Arc::new(server::admin_config(&config.admin.tls)?),
                access: config.admin.access,
                proxies: config.admin.proxies,
            },
            admins: AdminRegistry::new(config.admin.clients, last.map(|last| &last.admins)),
            catalogue: Catalogue::keep(&config.public, Arc::clone(&target), last.map(|last| &last.catalogue)),
            page: config.public.page,
            target,
            limits: fd_limit::fit(config.limits),
        })
    }

    /// Returns when each certificate expires. The pinned certificate of Incus may have been renewed in the meantime. An
    /// administrator identified by a fingerprint is not included, because the expiry is unknown.
    pub fn expiries(&self) -> Vec<Expiry> {
        let pinned = self.target.pinned();
        let pinned = pinned.and_then(|pinned| Expiry::of("upstream.server_certificate", None, &pinned));
        self.expiries.iter().cloned().chain(pinned).collect()
    }

    /// Returns what clients reject in the certificate chain that the configuration key `certificate` names.
    pub fn chain_faults(&self, certificate: &str, now: SystemTime) -> Vec<ChainFault> {
        let server = self.servers.iter().find(|(key, _)| *key == certificate);
        server.map_or_else(Vec::new, |(_, identity)| chain::faults(identity.chain(), now))
    }

    /// Returns the configuration of a port.
    pub fn listener(&self, port: Port) -> &ListenerConfig {
        match port {
            Port::Admin => &self.admin,
            Port::Public => &self.public,
        }
    }
}

fn expiries(config: &Config) -> Vec<Expiry> {
    let ours = [
        ("public.tls", &config.public.tls),
        ("admin.tls", &config.admin.tls),
        ("upstream.client_certificate", &config.upstream.identity),
    ];
    let ours = ours
        .into_iter()
        .filter_map(|(key, identity)| Expiry::of(key, None, identity.certificate()));
    let admins = config.admin.clients.iter().filter_map(|client| match &client.known_by {
        CredentialMatcher::Certificate(certificate) => Expiry::of("admin.clients", Some(&client.name), certificate),
        CredentialMatcher::Fingerprint(_) => None,
    });
    ours.chain(admins).collect()
}
