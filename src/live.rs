//! The configuration in force, and what was made of it. A reload replaces it whole.

use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;

use crate::config::{Config, Limits, Page};
use crate::identity::Admins;
use crate::limits::{Access, descriptors};
use crate::net::Port;
use crate::networks::Networks;
use crate::public::catalogue::Catalogue;
use crate::tls::server;
use crate::upstream::Target;

/// All that is derived from one configuration.
#[derive(Debug)]
pub struct Live {
    /// What the public port asks of who comes.
    pub public: Entrance,
    /// What the admin port does.
    pub admin: Entrance,
    /// Who is let in.
    pub admins: Admins,
    /// What strangers may know.
    pub catalogue: Catalogue,
    /// What people see of that, if anything.
    pub page: Option<Page>,
    /// Where Incus is.
    pub target: Arc<Target>,
    /// What a client may take.
    pub limits: Limits,
}

/// What a port asks of who comes, and shows them.
#[derive(Debug)]
pub struct Entrance {
    /// What clients see.
    pub tls: Arc<ServerConfig>,
    /// Who may connect.
    pub access: Access,
    /// The proxies in front of it, who say whose connections they bring.
    pub proxies: Networks,
}

/// The configuration is right, but TLS could not be set up with it.
#[derive(Debug, Error)]
#[error("cannot set up TLS: {0}")]
pub struct SetUpError(#[from] rustls::Error);

impl Live {
    /// Derives it. The catalogue's keeper is spawned on the current runtime, and ends with what is returned.
    ///
    /// Where the last one had the same Incus, its connections and what is known of its images live on: a reload costs
    /// nobody anything, not even while Incus is away.
    pub fn new(config: Config, last: Option<&Self>) -> Result<Self, SetUpError> {
        let target = match last {
            Some(last) if last.target.is_of(&config.upstream) => Arc::clone(&last.target),
            _ => Arc::new(Target::new(&config.upstream)),
        };
        Ok(Self {
            public: Entrance {
                tls: Arc::new(server::for_strangers(&config.public.tls)?),
                access: config.public.access.clone(),
                proxies: config.public.proxies.clone(),
            },
            admin: Entrance {
                tls: Arc::new(server::for_admins(&config.admin.tls)?),
                access: config.admin.access,
                proxies: config.admin.proxies,
            },
            admins: Admins::new(config.admin.clients),
            catalogue: Catalogue::keep(&config.public, Arc::clone(&target), last.map(|last| &last.catalogue)),
            page: config.public.page,
            target,
            limits: descriptors::fit(config.limits),
        })
    }

    /// That of a port.
    pub fn entrance(&self, port: Port) -> &Entrance {
        match port {
            Port::Admin => &self.admin,
            Port::Public => &self.public,
        }
    }
}
