//! Connections from proxies whose PROXY header has not arrived yet. Their client is unknown, so they count for the port and
//! not for an address.

use std::sync::Arc;

use super::connections::Connections;
use crate::port::Port;

/// Permit of one such connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct PendingProxyPermit {
    connections: Arc<Connections>,
    port: Port,
}

impl PendingProxyPermit {
    pub(super) fn new(connections: Arc<Connections>, port: Port) -> Self {
        Self { connections, port }
    }
}

impl Drop for PendingProxyPermit {
    fn drop(&mut self) {
        self.connections.release_proxy(self.port);
    }
}
