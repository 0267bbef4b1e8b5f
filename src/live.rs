//! The configuration in force, and what was made of it. A reload replaces it whole.

use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;

use crate::config::{Config, Limits};
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
    pub fn new(config: Config) -> Result<Self, SetUpError> {
        let target = Arc::new(Target::new(&config.upstream));
        Ok(Self {
            public_tls: Arc::new(server::for_strangers(&config.public.tls)?),
            admin_tls: Arc::new(server::for_admins(&config.admin.tls)?),
            admins: Admins::new(config.admin.clients),
            catalogue: Catalogue::keep(&config.public, Arc::clone(&target)),
            target,
            limits: config.limits,
        })
    }
}
