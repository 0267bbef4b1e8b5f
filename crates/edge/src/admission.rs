//! Connection admission and per-client resource limits. One [`Limiter`] counts for all workers and survives reloads.
//!
//! - The **public** port may use all of `limits.max_connections` except `limits.reserved_admin_connections`, and each client
//!   address only `limits.max_connections_per_address` of them. On one connection, every concurrent download after the first
//!   counts as another connection. When the port is full, a new connection evicts an idle connection of the network with the
//!   most connections; see [`public_queue`].
//! - A connection from a **proxy** counts for the client that its PROXY header names. Until the header has arrived, it counts
//!   for the port alone.
//! - On the **admin** port every client is anonymous until the handshake has presented a listed certificate. All clients
//!   before that point share half of `limits.reserved_admin_connections`. When that half is full, a new connection evicts the
//!   oldest one of the address with the most connections. A flood therefore evicts itself, and an administrator only needs
//!   the duration of one handshake.
//!
//! `connections` counts the connections and `reject_counters` what was rejected. [`IpAllowList`] filters by address,
//! [`per_ip`] counts by address, [`MinRate`] sets the minimum rate at which a client reads a response, a [`Reader`] tracks the
//! memory of unread responses, and [`fd_limit`] reads the system's file descriptor limit.

mod allow_list;
mod budget;
mod connections;
pub mod fd_limit;
mod min_rate;
mod pending_proxy;
pub mod per_ip;
mod permit;
mod preauth_queue;
mod public_queue;
mod reject_counters;
mod reject_reason;
mod rejection;
mod response_budget;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::allow_list::IpAllowList;
use self::connections::Connections;
pub use self::min_rate::{MinRate, ResettableSleep};
pub use self::pending_proxy::PendingProxyPermit;
pub use self::per_ip::ClientBucket;
pub use self::permit::ConnectionPermit;
pub use self::public_queue::Stranger;
use self::reject_counters::RejectCounters;
pub use self::reject_reason::RejectReason;
pub use self::rejection::Rejection;
use self::response_budget::ResponseBudget;
pub use self::response_budget::{BudgetLease, Reader};
use crate::limits::Limits;
use crate::listener_id::{ListenerId, Policy};

/// Counts connections, requests and response memory for all workers.
#[derive(Debug)]
pub struct Limiter {
    connections: Arc<Connections>,
    answers: Arc<ResponseBudget>,
    cases: Arc<RejectCounters>,
}

impl Default for Limiter {
    fn default() -> Self {
        let cases = Arc::<RejectCounters>::default();
        Self {
            connections: Arc::default(),
            answers: Arc::new(ResponseBudget::new(Arc::clone(&cases))),
            cases,
        }
    }
}

impl Limiter {
    /// Admits a connection by its client's own address. The connection counts until the [`ConnectionPermit`] is dropped.
    ///
    /// # Errors
    /// Returns the reason if the connection is rejected.
    pub fn admit(
        &self,
        listener: ListenerId,
        client: IpAddr,
        access: &IpAllowList,
        limits: &Limits,
    ) -> Result<ConnectionPermit, RejectReason> {
        let held = match access.permits(client) {
            false => Err(RejectReason::Network),
            true => self.connections.admit(listener.policy(), client, limits),
        };
        match held {
            Ok(held) => {
                let (connections, cases) = (Arc::clone(&self.connections), Arc::clone(&self.cases));
                Ok(ConnectionPermit::new(connections, cases, held))
            }
            Err(reason) => Err(self.refuse(reason, listener, client, limits)),
        }
    }

    /// Admits a connection from a proxy whose PROXY header has not arrived yet.
    ///
    /// # Errors
    /// Returns [`RejectReason::PendingProxy`] if too many such connections are open.
    pub fn admit_proxy(
        &self,
        listener: ListenerId,
        proxy: IpAddr,
        limits: &Limits,
    ) -> Result<PendingProxyPermit, RejectReason> {
        let policy = listener.policy();
        match self.connections.admit_proxy(policy, limits) {
            Ok(()) => Ok(PendingProxyPermit::new(Arc::clone(&self.connections), policy)),
            Err(reason) => Err(self.refuse(reason, listener, proxy, limits)),
        }
    }

    /// Registers a new connection of this client as a reader of responses.
    pub fn reader(&self, client: IpAddr) -> Arc<Reader> {
        self.answers.reader(client)
    }

    /// Counts a request from a client without a [`ConnectionPermit`] that counts it.
    ///
    /// # Errors
    /// Returns the time until the next request is allowed.
    pub fn try_acquire(&self, client: IpAddr, requests_a_second: u32) -> Result<(), Duration> {
        self.bucket(client)
            .map_or(Ok(()), |bucket| bucket.try_acquire(requests_a_second))
    }

    /// Returns the bucket of a client, connected or not.
    pub fn bucket(&self, client: IpAddr) -> Option<Arc<ClientBucket>> {
        // Loopback is exempt, as in `admit`: it may be a proxy with many clients.
        (!client.is_loopback()).then(|| self.connections.address(client))
    }

    /// Counts a request that exceeds the rate of its address or network, and returns why it is not served.
    pub fn too_many_requests(&self, client: IpAddr, requests_a_second: u32, wait: Duration) -> Rejection {
        if self.count(RejectReason::Requests) {
            tracing::info!(
                "limits.requests_per_second: rejected a request from {client}: more than {requests_a_second} per second from \
                 this address, or several times as many from its network; further ones are not logged until a minute passes \
                 without any"
            );
        }
        Rejection::TooManyRequests(wait)
    }

    fn refuse(&self, reason: RejectReason, port: ListenerId, client: IpAddr, limits: &Limits) -> RejectReason {
        let begins = self.count(reason);
        tracing::debug!(%port, %client, ?reason, "rejected a connection");
        if begins {
            log_episode(reason, port, client, limits);
        }
        reason
    }

    /// Counts a case. Returns `true` for the first one of an episode, which the caller should log.
    pub fn count(&self, reason: RejectReason) -> bool {
        self.cases.count(reason)
    }

    /// Returns the number of cases.
    pub fn cases(&self, reason: RejectReason) -> u64 {
        self.cases.cases(reason)
    }

    /// Returns the number of open connections on the listeners with this policy.
    pub fn connections(&self, policy: Policy) -> usize {
        self.connections.len(policy)
    }
}

fn log_episode(reason: RejectReason, port: ListenerId, client: IpAddr, limits: &Limits) {
    match reason {
        RejectReason::Address => tracing::info!(
            "limits.max_connections_per_address: rejected a connection from {client}, which already has {}; further \
             ones are not logged until a minute passes without any",
            limits.max_connections_per_address
        ),
        RejectReason::Full => tracing::warn!(
            "limits.max_connections: rejected a connection on the {port} port, which has none left of {}, {} of them \
             reserved for the admin port; further ones are not logged until a minute passes without any",
            limits.max_connections,
            limits.reserved_admin_connections
        ),
        RejectReason::PendingProxy => tracing::warn!(
            "limits.max_connections: rejected a connection on the {port} port from the proxy {client}: too many \
             connections have not sent a PROXY header yet; further ones are not logged until a minute passes without any"
        ),
        // Logged where they occur, or expected because the configuration asks for them.
        RejectReason::Cpu
        | RejectReason::Descriptors
        | RejectReason::Evicted
        | RejectReason::Network
        | RejectReason::Requests
        | RejectReason::Stalled
        | RejectReason::Unread => {}
    }
}

#[cfg(test)]
mod tests;
