//! Connections from proxies whose PROXY header has not arrived yet. Their client is unknown, so they count for
//! their listener and not for an address.

use std::sync::Arc;

use super::connections::Connections;
use crate::listener_id::Policy;

/// Permit of one such connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct PendingProxyPermit {
    connections: Arc<Connections>,
    policy: Policy,
}

impl PendingProxyPermit {
    pub(super) fn new(connections: Arc<Connections>, policy: Policy) -> Self {
        Self { connections, policy }
    }
}

impl Drop for PendingProxyPermit {
    fn drop(&mut self) {
        self.connections.release_proxy(self.policy);
    }
}
