//! Connections that a proxy has begun and has not said yet whose they are. They are nobody's, and so no address counts them.

use std::sync::Arc;

use super::Limiter;
use crate::port::Port;

/// One of them; it counts until this is dropped.
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
