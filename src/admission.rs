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
//! [`IpAllowList`] filters by address, [`per_ip`] counts by address, [`MinRate`] sets the minimum rate at which a client
//! reads a response, a [`Reader`] tracks the memory of unread responses, and [`fd_limit`] reads the system's file descriptor
//! limit.

mod allow_list;
pub mod fd_limit;
mod min_rate;
mod pending_proxy;
pub mod per_ip;
mod permit;
mod preauth_queue;
mod public_queue;
mod reject_reason;
mod rejection;
mod response_budget;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::allow_list::IpAllowList;
pub use self::min_rate::{MinRate, ResettableSleep};
pub use self::pending_proxy::PendingProxyPermit;
pub use self::per_ip::ClientBucket;
use self::per_ip::{ClientBuckets, IpPrefix};
pub use self::permit::ConnectionPermit;
use self::permit::Slot;
use self::preauth_queue::PreauthQueue;
use self::public_queue::PublicQueue;
pub use self::public_queue::Stranger;
pub use self::reject_reason::RejectReason;
pub use self::rejection::Rejection;
use self::response_budget::ResponseBudget;
pub use self::response_budget::{BudgetLease, Reader};
use crate::limits::Limits;
use crate::port::Port;

/// An episode ends after this many seconds without another case of its reason. The log has one line per episode.
const QUIET: u64 = 60;

/// Counts connections, requests and response memory for all workers.
#[derive(Debug)]
pub struct Limiter {
    present: Mutex<Counts>,
    answers: ResponseBudget,
    cases: [RejectCounter; RejectReason::ALL.len()],
    since: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    /// Connections on the public port.
    strangers: PublicQueue,
    /// Connections on the admin port that have presented a listed certificate.
    admins: usize,
    /// Connections on the admin port that have not presented a listed certificate.
    unproven: PreauthQueue,
    addresses: ClientBuckets,
    /// Connections from proxies whose PROXY header has not arrived yet, per port.
    unannounced: [usize; 2],
}

/// Counter of one [`RejectReason`].
#[derive(Debug, Default)]
struct RejectCounter {
    count: AtomicU64,
    /// Time of the last case, in seconds since [`Limiter::since`], plus [`QUIET`].
    last: AtomicU64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            present: Mutex::default(),
            answers: ResponseBudget::default(),
            cases: Default::default(),
            since: Instant::now(),
        }
    }
}

impl Limiter {
    /// Admits a connection by its client's own address. The connection counts until the [`ConnectionPermit`] is dropped.
    ///
    /// # Errors
    /// Returns the reason if the connection is rejected.
    pub fn admit(
        self: &Arc<Self>,
        port: Port,
        client: IpAddr,
        access: &IpAllowList,
        limits: &Limits,
    ) -> Result<ConnectionPermit, RejectReason> {
        let held = match access.permits(client) {
            false => Err(RejectReason::Network),
            true => self.present().admit(port, client, limits),
        };
        match held {
            Ok(held) => Ok(ConnectionPermit::new(Arc::clone(self), held)),
            Err(reason) => Err(self.refuse(reason, port, client, limits)),
        }
    }

    /// Admits a connection from a proxy whose PROXY header has not arrived yet.
    ///
    /// # Errors
    /// Returns [`RejectReason::PendingProxy`] if too many such connections are open.
    pub fn admit_proxy(
        self: &Arc<Self>,
        port: Port,
        proxy: IpAddr,
        limits: &Limits,
    ) -> Result<PendingProxyPermit, RejectReason> {
        let at_most = match port {
            Port::Admin => limits.reserved_admin_connections,
            Port::Public => limits.connections_of(port),
        };
        let mut present = self.present();
        let unannounced = present.unannounced(port);
        if *unannounced >= at_most {
            drop(present);
            return Err(self.refuse(RejectReason::PendingProxy, port, proxy, limits));
        }
        *unannounced += 1;
        Ok(PendingProxyPermit::new(Arc::clone(self), port))
    }

    /// Counts a request from a client without a [`ConnectionPermit`] that counts it.
    ///
    /// # Errors
    /// Returns the time until the next request is allowed.
    pub fn try_acquire(&self, client: IpAddr, requests_a_second: u32) -> Result<(), Duration> {
        // Loopback is exempt, as in `admit`: it may be a proxy with many clients.
        if client.is_loopback() {
            return Ok(());
        }
        let address = self.present().addresses.of(client);
        address.try_acquire(requests_a_second)
    }

    fn refuse(&self, reason: RejectReason, port: Port, client: IpAddr, limits: &Limits) -> RejectReason {
        let begins = self.count(reason);
        tracing::debug!(%port, %client, ?reason, "rejected a connection");
        if begins {
            log_episode(reason, port, client, limits);
        }
        reason
    }

    /// Counts a case. Returns `true` for the first one of an episode, which the caller should log.
    pub fn count(&self, reason: RejectReason) -> bool {
        let cases = &self.cases[reason as usize];
        cases.count.fetch_add(1, Ordering::Relaxed);
        // Starts at `QUIET`, so that the first case is not taken for part of an earlier episode.
        let now = self.since.elapsed().as_secs() + QUIET;
        cases.last.swap(now, Ordering::Relaxed) + QUIET <= now
    }

    /// Returns the number of cases.
    pub fn cases(&self, reason: RejectReason) -> u64 {
        self.cases[reason as usize].count.load(Ordering::Relaxed)
    }

    /// Returns the number of open connections on a port.
    pub fn connections(&self, port: Port) -> usize {
        let present = self.present();
        match port {
            Port::Admin => present.admins + present.unproven.len(),
            Port::Public => present.strangers.len(),
        }
    }

    fn present(&self) -> MutexGuard<'_, Counts> {
        // A panic while the lock was held has changed at most one number.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_episode(reason: RejectReason, port: Port, client: IpAddr, limits: &Limits) {
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

impl Counts {
    fn unannounced(&mut self, port: Port) -> &mut usize {
        &mut self.unannounced[port as usize]
    }

    fn admit(&mut self, port: Port, client: IpAddr, limits: &Limits) -> Result<Slot, RejectReason> {
        let all = self.strangers.len() + self.admins + self.unproven.len();
        match port {
            Port::Admin => {
                let is_full = self.unproven.len() >= max_preauth(limits);
                // An eviction frees a slot, so it is possible even at the limit.
                if all >= limits.max_connections && !is_full {
                    return Err(RejectReason::Full);
                }
                Ok(Slot::PreauthQueue(self.unproven.acquire(client, is_full)))
            }
            Port::Public => {
                let kept_back = limits.reserved_admin_connections;
                let at_most = limits.max_connections.saturating_sub(kept_back);
                let is_full = all >= limits.max_connections || self.strangers.len() >= at_most;
                // Loopback is not a single client: it is a proxy with many clients, or a local user who can do more harm in
                // other ways.
                let address = match client.is_loopback() {
                    true => None,
                    false => {
                        let address = self.addresses.acquire(client, limits.max_connections_per_address);
                        Some(address.ok_or(RejectReason::Address)?)
                    }
                };
                let group = IpPrefix::of(client);
                if is_full {
                    let Some(evicted) = self.strangers.displace_for(group) else {
                        if let Some(address) = &address {
                            self.addresses.release(address);
                        }
                        return Err(RejectReason::Full);
                    };
                    if let Some(address) = &evicted.address {
                        self.addresses.release(address);
                    }
                }
                Ok(Slot::Stranger(self.strangers.acquire(group, address, is_full)))
            }
        }
    }
}

/// Maximum number of connections on the admin port without a listed certificate. The other half is reserved for
/// administrators.
fn max_preauth(limits: &Limits) -> usize {
    (limits.reserved_admin_connections / 2).max(1)
}

#[cfg(test)]
mod tests;
