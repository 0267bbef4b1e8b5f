//! The current configuration and everything derived from it. A reload replaces it as a whole.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use edge::admission::fd_limit;
use edge::config::{EdgeConfig, ListenerConfig};
use edge::tls::certificate::{self, Validity};
use edge::tls::chain::{self, ChainFault};
use edge::tls::{CertifiedKey, server};
use edge::upstream::{Target, Upstream};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::watch;

use crate::config::{Config, ConfiguredListener, CredentialMatcher, Page, Table};
use crate::identity::AdminRegistry;
use crate::image_store::ImageStore;
use crate::public::catalogue::Catalogue;
use crate::simplestreams::publisher::Publication;

/// File descriptors that a download from the store uses: a split image has two files. Without a store, a request uses one, a
/// connection to Incus.
const FILES: usize = 2;

/// Everything that is derived from one configuration.
#[derive(Debug)]
pub struct State {
    /// The listeners that were bound when the process started.
    pub listeners: Vec<ConfiguredListener<Table>>,
    /// Their settings, and the limits.
    pub edge: Arc<EdgeConfig>,
    /// The administrators.
    pub admins: AdminRegistry,
    /// The images that strangers may see.
    pub catalogue: Catalogue,
    /// The web page with these images, if enabled.
    pub page: Option<Page>,
    /// The published images as simplestreams, if enabled.
    pub simplestreams: Option<Publication>,
    /// The files of the published images, if enabled.
    pub store: Option<ImageStore>,
    /// The Incus server.
    pub target: Arc<Target>,
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

/// The configuration is valid, but setting up TLS with it failed.
#[derive(Debug, Error)]
#[error("cannot initialize TLS: {0}")]
pub struct SetUpError(#[from] rustls::Error);

impl State {
    /// Derives the state. Spawns the tasks that refresh the catalogue and tidy the store on the current runtime, which end when
    /// the state is dropped.
    ///
    /// If `last` has the same Incus server, its connections and its image data are kept: a reload has no cost for clients,
    /// not even while Incus is unavailable.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up.
    pub fn new(config: Config, store: Option<ImageStore>, last: Option<&Self>) -> Result<Self, SetUpError> {
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
        // A reload does not bind others.
        let listeners = last.map_or_else(|| config.listeners.clone(), |last| last.listeners.clone());
        let settings = listeners.iter().map(|listener| settings(listener.first, &config));
        let edge = EdgeConfig {
            listeners: settings.collect::<Result<_, _>>()?,
            limits: fd_limit::fit(config.limits, if store.is_some() { FILES } else { 1 }),
        };
        let catalogue = Catalogue::keep(&config.public, Arc::clone(&target), last.map(|last| &last.catalogue));
        if let Some(store) = &store {
            store.follow(&catalogue);
        }
        let simplestreams = store.as_ref().filter(|_| config.public.simplestreams).map(|store| {
            Publication::keep(
                store.clone(),
                &catalogue,
                Arc::clone(&target),
                config.public.file_max_age,
                last.and_then(|last| last.simplestreams.as_ref()),
            )
        });
        if config.public.simplestreams && store.is_none() {
            tracing::warn!(
                "public.simplestreams: it needs the store, which is not open; only Incus's protocol is served"
            );
        }
        Ok(Self {
            expiries,
            servers,
            listeners,
            edge: Arc::new(edge),
            admins: AdminRegistry::new(config.admin.clients, last.map(|last| &last.admins)),
            catalogue,
            page: config.public.page,
            simplestreams,
            store,
            target,
        })
    }

    /// Returns when each certificate expires. The pinned certificate of Incus may have been renewed in the meantime. An
    /// administrator identified by a fingerprint is not included, because the expiry is unknown.
    pub fn expiries(&self) -> Vec<Expiry> {
        let pinned = self.target.pinned();
        let pinned = pinned.and_then(|pinned| Expiry::of("upstream.server_certificate", None, &pinned));
        self.expiries.iter().cloned().chain(pinned).collect()
    }

    /// Whether the public port has a self-signed certificate.
    pub fn is_self_signed(&self) -> bool {
        let mut servers = self.servers.iter();
        let server = servers.find(|(key, _)| *key == "public.tls");
        server.is_some_and(|(_, server)| certificate::is_self_signed(server.certificate()).unwrap_or_default())
    }

    /// Returns what clients reject in the certificate chain that the configuration key `certificate` names.
    pub fn chain_faults(&self, certificate: &str, now: SystemTime) -> Vec<ChainFault> {
        let server = self.servers.iter().find(|(key, _)| *key == certificate);
        server.map_or_else(Vec::new, |(_, identity)| chain::faults(identity.chain(), now))
    }
}

/// Returns the settings of a listener from the table that decides them.
fn settings(table: Table, config: &Config) -> Result<ListenerConfig, rustls::Error> {
    let (tls, access, proxies) = match table {
        Table::Admin => {
            let admin = &config.admin;
            (server::admin_config(&admin.tls)?, &admin.access, &admin.proxies)
        }
        Table::Public => {
            let public = &config.public;
            (server::public_config(&public.tls)?, &public.access, &public.proxies)
        }
    };
    Ok(ListenerConfig {
        tls: Arc::new(tls),
        access: access.clone(),
        proxies: proxies.clone(),
    })
}

/// One thread's client of the Incus that is configured at the moment.
#[derive(Debug)]
pub struct CurrentUpstream {
    state: watch::Receiver<Arc<State>>,
    upstream: RefCell<Rc<Upstream>>,
}

impl CurrentUpstream {
    /// Creates the client, without a connection.
    pub fn new(state: watch::Receiver<Arc<State>>) -> Self {
        let upstream = Rc::new(Upstream::new(Arc::clone(&state.borrow().target)));
        Self {
            state,
            upstream: RefCell::new(upstream),
        }
    }

    /// Returns the client. After a reload that names another Incus, it is a new one.
    pub fn get(&self) -> Rc<Upstream> {
        let state = self.state.borrow();
        let mut upstream = self.upstream.borrow_mut();
        if !upstream.is_for(&state.target) {
            *upstream = Rc::new(Upstream::new(Arc::clone(&state.target)));
        }
        Rc::clone(&upstream)
    }

    /// Closes connections that have been idle for so long that Incus may be about to close them.
    pub fn close_idle(&self) {
        let upstream = Rc::clone(&self.upstream.borrow());
        upstream.close_idle();
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
