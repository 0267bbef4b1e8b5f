//! The configuration in force, and what was made of it. A reload replaces it whole.

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

/// All that is derived from one configuration.
#[derive(Debug)]
pub struct State {
    /// What the public port asks of who comes.
    pub public: ListenerConfig,
    /// What the admin port does.
    pub admin: ListenerConfig,
    /// The administrators.
    pub admins: AdminRegistry,
    /// What strangers may know.
    pub catalogue: Catalogue,
    /// What people see of that, if anything.
    pub page: Option<Page>,
    /// Where Incus is.
    pub target: Arc<Target>,
    /// What a client may take.
    pub limits: Limits,
    expiries: Vec<Expiry>,
    servers: [(&'static str, CertifiedKey); 2],
}

/// When a certificate expires.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The key that names it.
    pub certificate: &'static str,
    /// Whose it is, for one of `admin.clients`.
    pub admin: Option<Arc<str>>,
    /// In seconds since 1970.
    pub at: i64,
}

impl Expiry {
    /// None, if it cannot be read: then nobody is let in by it, either.
    fn of(key: &'static str, admin: Option<&Arc<str>>, certificate: &CertificateDer<'_>) -> Option<Self> {
        Some(Self {
            certificate: key,
            admin: admin.cloned(),
            at: Validity::of(certificate).ok()?.not_after(),
        })
    }
}

/// What a port asks of who comes, and shows them.
#[derive(Debug)]
pub struct ListenerConfig {
    /// Server certificate.
    pub tls: Arc<ServerConfig>,
    /// Client addresses that may connect.
    pub access: IpAllowList,
    /// The proxies in front of it, who say whose connections they bring.
    pub proxies: CidrSet,
}

/// The configuration is right, but TLS could not be set up with it.
#[derive(Debug, Error)]
#[error("cannot set up TLS: {0}")]
pub struct SetUpError(#[from] rustls::Error);

impl State {
    /// Derives it. The catalogue's keeper is spawned on the current runtime, and ends with what is returned.
    ///
    /// Where the last one had the same Incus, its connections and what is known of its images live on: a reload costs
    /// nobody anything, not even while Incus is away.
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

    /// When which certificate expires. What Incus must present may have been renewed meanwhile; of an admin who is known by
    /// a fingerprint, nothing else is known.
    pub fn expiries(&self) -> Vec<Expiry> {
        let pinned = self.target.pinned();
        let pinned = pinned.and_then(|pinned| Expiry::of("upstream.server_certificate", None, &pinned));
        self.expiries.iter().cloned().chain(pinned).collect()
    }

    /// What clients will refuse in the chain of a port's certificate, by the key that names it.
    pub fn chain_faults(&self, certificate: &str, now: SystemTime) -> Vec<ChainFault> {
        let server = self.servers.iter().find(|(key, _)| *key == certificate);
        server.map_or_else(Vec::new, |(_, identity)| chain::faults(identity.chain(), now))
    }

    /// That of a port.
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
