//! Connections from proxies whose PROXY header has not arrived yet. Their client is unknown, so they count for
//! their listener and not for an address.

use std::sync::Arc;

use super::Limiter;
use crate::listener_id::Policy;

/// Permit of one such connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct PendingProxyPermit {
    limiter: Arc<Limiter>,
    policy: Policy,
}

impl PendingProxyPermit {
    pub(super) fn new(limiter: Arc<Limiter>, policy: Policy) -> Self {
        Self { limiter, policy }
    }
}

impl Drop for PendingProxyPermit {
    fn drop(&mut self) {
        *self.limiter.present().unannounced(self.policy) -= 1;
    }
}
