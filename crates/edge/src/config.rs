//! The configuration of the listeners and of the limits. A reload replaces it as a whole.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::admission::IpAllowList;
use crate::cidr::CidrSet;
use crate::limits::Limits;
use crate::listener_id::ListenerId;

/// Configuration of all listeners.
#[derive(Debug)]
pub struct EdgeConfig {
    /// The listeners, each at the index of its [`ListenerId`].
    pub listeners: Vec<ListenerConfig>,
    /// Limits per client and in total.
    pub limits: Limits,
}

/// Configuration of one listener.
#[derive(Debug)]
pub struct ListenerConfig {
    /// Server certificate, and whether clients are asked for theirs.
    pub tls: Arc<ServerConfig>,
    /// Client addresses that may connect.
    pub access: IpAllowList,
    /// The proxies in front of the listener, which send a PROXY header.
    pub proxies: CidrSet,
}

impl EdgeConfig {
    /// Returns the configuration of one listener.
    pub fn listener(&self, id: ListenerId) -> &ListenerConfig {
        &self.listeners[id.index()]
    }
}
