//! The configuration in force, and what was made of it. A reload replaces it whole.

use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;

use crate::config::{Config, Limits, Page};
use crate::identity::Admins;
use crate::public::catalogue::Catalogue;
use crate::tls::server;
use crate::upstream::Target;

/// All that is derived from one configuration.
#[derive(Debug)]
pub struct Live {
    /// What clients of the public port see.
    pub public_tls: Arc<ServerConfig>,
    /// What clients of the admin port see.
    pub admin_tls: Arc<ServerConfig>,
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
            public_tls: Arc::new(server::for_strangers(&config.public.tls)?),
            admin_tls: Arc::new(server::for_admins(&config.admin.tls)?),
            admins: Admins::new(config.admin.clients),
            catalogue: Catalogue::keep(&config.public, Arc::clone(&target), last.map(|last| &last.catalogue)),
            page: config.public.page,
            target,
            limits: config.limits,
        })
    }
}
