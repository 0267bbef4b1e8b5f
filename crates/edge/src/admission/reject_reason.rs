//! Why a connection or request is rejected.

use crate::counters::label::label;

/// Why a connection or request is rejected or aborted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RejectReason {
    /// Too many connections from one address on the public port.
    Address,
    /// No file descriptors are left.
    Descriptors,
    /// The filters and searches of one address have used too much CPU time.
    Cpu,
    /// Evicted by a new connection: on the admin port before presenting a listed certificate, on the public port while idle.
    Evicted,
    /// No connection is left that this port may use.
    Full,
    /// The address matches `deny`, or does not match `allow`.
    Network,
    /// Too many requests from one address.
    Requests,
    /// The client did not read its response fast enough.
    Stalled,
    /// Too many connections from proxies whose PROXY header has not arrived yet.
    PendingProxy,
    /// The client's unread responses held too much memory.
    Unread,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Address,
        Self::Cpu,
        Self::Descriptors,
        Self::Evicted,
        Self::Full,
        Self::Network,
        Self::Requests,
        Self::Stalled,
        Self::PendingProxy,
        Self::Unread,
    ];
}

label!(RejectReason {
    Address = "max_connections_per_address",
    Cpu = "cpu_time",
    Descriptors = "file_descriptors",
    Evicted = "evicted",
    Full = "max_connections",
    Network = "denied_address",
    Requests = "requests_per_second",
    Stalled = "min_send_rate",
    PendingProxy = "proxy_header",
    Unread = "response_memory",
});
