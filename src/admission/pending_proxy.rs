//! Connections from proxies whose PROXY header has not arrived yet. Their client is unknown, so they count for the port and
//! not for an address.

use std::sync::Arc;

use super::Limiter;
use crate::port::Port;

/// Permit of one such connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct PendingProxyPermit {
    limiter: Arc<Limiter>,
    port: Port,
}

impl PendingProxyPermit {
    pub(super) fn new(limiter: Arc<Limiter>, port: Port) -> Self {
        Self { limiter, port }
    }
}

impl Drop for PendingProxyPermit {
    fn drop(&mut self) {
        *self.limiter.present().unannounced(self.port) -= 1;
    }
}
