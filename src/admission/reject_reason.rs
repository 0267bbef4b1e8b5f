//! Why a connection or request is rejected.

use crate::counters::label::label;

/// Why somebody is not served, or no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RejectReason {
    /// Too many connections from one address on the public port.
    Address,
    /// No file descriptors left.
    Descriptors,
    /// Filters and searches of one address have taken too much CPU time.
    Cpu,
    /// Others came: on the admin port while it had not shown a listed certificate yet, on the public one while it was idle.
    Evicted,
    /// No connection left that this port may use.
    Full,
    /// `deny`, or not `allow`.
    Network,
    /// Too many requests from one address.
    Requests,
    /// It did not take its answer.
    Stalled,
    /// Too many of whom their proxy has not said yet who they are.
    PendingProxy,
    /// Its unread answers held too much memory.
    Unread,
}

impl RejectReason {
    /// Each of them.
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
    Address = "connections_per_address",
    Cpu = "cpu",
    Descriptors = "descriptors",
    Evicted = "displaced",
    Full = "connections",
    Network = "network",
    Requests = "requests",
    Stalled = "stalled",
    PendingProxy = "unannounced",
    Unread = "unread",
});
