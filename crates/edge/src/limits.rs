//! `[limits]`: limits on what clients may use.

use std::time::Duration;

use crate::listener_id::Policy;

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum time to send a request's header section.
    pub header_timeout: Duration,
    /// Maximum size of a request's header section, in bytes.
    pub max_header_size: usize,
    /// Maximum time between two requests of one connection.
    pub idle_timeout: Duration,
    /// Maximum number of connections, on both ports together.
    pub max_connections: usize,
    /// Number of connections reserved for the admin port.
    pub reserved_admin_connections: usize,
    /// Maximum number of connections of one client address on the public port.
    pub max_connections_per_address: usize,
    /// Average number of requests per second that one client address may send on the public port. Wider networks may send
    /// several times as many.
    pub requests_per_second: u32,
    /// Minimum rate at which a client must receive a response on the public port, in bytes per second.
    pub min_send_rate: u32,
    /// Maximum time below that rate.
    pub send_grace: Duration,
    /// Maximum time for connections to finish after SIGTERM.
    pub drain_timeout: Duration,
}

impl Limits {
    /// Returns the maximum number of connections under a policy; for authenticated listeners, that of all listeners together.
    pub fn connections_of(&self, policy: Policy) -> usize {
        match policy {
            Policy::Authenticated => self.max_connections,
            Policy::Open => self.max_connections - self.reserved_admin_connections,
        }
    }
}
