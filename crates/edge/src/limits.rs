//! `[limits]`: what clients may use.

use std::time::Duration;

use crate::listener_id::Policy;

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time to send the head of a request.
    pub header_timeout: Duration,
    /// Size of the head of a request, in bytes.
    pub max_header_size: usize,
    /// Time for which a connection may do nothing between requests.
    pub idle_timeout: Duration,
    /// Connections, on both ports together.
    pub max_connections: usize,
    /// How many of them the public port may not use.
    pub reserved_admin_connections: usize,
    /// How many of them one address may use on the public port.
    pub max_connections_per_address: usize,
    /// How many requests a second one address may make on the public port, in the long run.
    pub requests_per_second: u32,
    /// How slowly an answer may be taken on the public port, in bytes a second.
    pub min_send_rate: u32,
    /// For how long it may be taken more slowly.
    pub send_grace: Duration,
    /// Time that connections have to finish after SIGTERM.
    pub drain_timeout: Duration,
}

impl Limits {
    /// How many there may be under a policy. Those of authenticated listeners are all that there may be.
    pub fn connections_of(&self, policy: Policy) -> usize {
        match policy {
            Policy::Authenticated => self.max_connections,
            Policy::Open => self.max_connections - self.reserved_admin_connections,
        }
    }
}
