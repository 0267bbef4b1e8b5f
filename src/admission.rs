//! Who may connect, and how much of us a client may take: one count for all workers, kept over reloads.
//!
//! - The **public** port may use all of `limits.max_connections` but the `limits.reserved_admin_connections` that are kept back, and each
//!   address only so many of them. A download beside the first one of a connection counts as another connection.
//!   When the port is full, whoever comes displaces an idle connection of the network that has the most: see [`strangers`].
//! - What a **proxy** brings is counted as its client's, once it has said whose it is; before that, by port alone.
//! - On the **admin** port nobody is anybody until the handshake has shown a certificate that is listed. All who have not got
//!   there share half of what is kept back. When that is full, whoever comes displaces the one who has waited longest of the
//!   address that has the most: a crowd displaces itself, and an admin needs but the time of a handshake.
//!
//! [`IpAllowList`] judges an address, [`address`] counts by it, [`MinRate`] is how slowly an answer may be taken, a [`Reader`] holds
//! memory until it has taken its answers, [`descriptors`] is what the system allows.

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

/// The log has one line of an episode, and then none until so many seconds have gone by without another such case.
const QUIET: u64 = 60;

/// Counts who is there.
#[derive(Debug)]
pub struct Limiter {
    present: Mutex<Counts>,
    answers: ResponseBudget,
    cases: [RejectCounter; RejectReason::ALL.len()],
    since: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    /// On the public port.
    strangers: PublicQueue,
    /// On the admin port, with a listed certificate.
    admins: usize,
    /// On the admin port, without.
    unproven: PreauthQueue,
    addresses: ClientBuckets,
    /// By proxies, on each port.
    unannounced: [usize; 2],
}

/// Of one [`RejectReason`].
#[derive(Debug, Default)]
struct RejectCounter {
    count: AtomicU64,
    /// Sum of all durations in seconds.
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
    /// Whether a client may connect, by its own address. It may for as long as it holds the [`ConnectionPermit`].
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

    /// Whether a proxy may begin a connection, of which it has yet to say whose it is.
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

    /// Counts a request of whoever has no [`ConnectionPermit`] that does; fails with the time until one more is allowed.
    pub fn try_acquire(&self, client: IpAddr, requests_a_second: u32) -> Result<(), Duration> {
        // As for connections: it may be a proxy with many clients.
        if client.is_loopback() {
            return Ok(());
        }
        let address = self.present().addresses.of(client);
        address.try_acquire(requests_a_second)
    }

    fn refuse(&self, reason: RejectReason, port: Port, client: IpAddr, limits: &Limits) -> RejectReason {
        let begins = self.count(reason);
        tracing::debug!(%port, %client, ?reason, "refused a connection");
        if begins {
            log_episode(reason, port, client, limits);
        }
        reason
    }

    /// Counts a case; `true` for the first one of an episode, which the log should tell of.
    pub fn count(&self, reason: RejectReason) -> bool {
        let cases = &self.cases[reason as usize];
        cases.count.fetch_add(1, Ordering::Relaxed);
        // Later than an episode that there was not.
        let now = self.since.elapsed().as_secs() + QUIET;
        cases.last.swap(now, Ordering::Relaxed) + QUIET <= now
    }

    /// How many cases there were.
    pub fn cases(&self, reason: RejectReason) -> u64 {
        self.cases[reason as usize].count.load(Ordering::Relaxed)
    }

    /// How many connections there are on a port.
    pub fn connections(&self, port: Port) -> usize {
        let present = self.present();
        match port {
            Port::Admin => present.admins + present.unproven.len(),
            Port::Public => present.strangers.len(),
        }
    }

    fn present(&self) -> MutexGuard<'_, Counts> {
        // Whoever has panicked has changed one number or none.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_episode(reason: RejectReason, port: Port, client: IpAddr, limits: &Limits) {
    match reason {
        RejectReason::Address => tracing::info!(
            "limits.max_connections_per_address: refused a connection from {client}, which has {} already; no more of this is \
             told until a minute has gone by without it",
            limits.max_connections_per_address
        ),
        RejectReason::Full => tracing::warn!(
            "limits.max_connections: refused a connection on the {port} port, which has no more of the {}, {} of them kept back for \
             admins; no more of this is told until a minute has gone by without it",
            limits.max_connections,
            limits.reserved_admin_connections
        ),
        RejectReason::PendingProxy => tracing::warn!(
            "limits.max_connections: refused a connection on the {port} port by the proxy {client}, which has not said yet whose the \
             others are; no more of this is told until a minute has gone by without it"
        ),
        // Told where it happens, or by the one who wanted it so.
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
                // Whoever is displaced leaves a place.
                if all >= limits.max_connections && !is_full {
                    return Err(RejectReason::Full);
                }
                Ok(Slot::PreauthQueue(self.unproven.acquire(client, is_full)))
            }
            Port::Public => {
                let kept_back = limits.reserved_admin_connections;
                let at_most = limits.max_connections.saturating_sub(kept_back);
                let is_full = all >= limits.max_connections || self.strangers.len() >= at_most;
                // This machine is not one client, but a proxy with many, or somebody who may do worse things to us.
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

/// All who have not shown a listed certificate on the admin port, together. The other half is the admins' own.
fn max_preauth(limits: &Limits) -> usize {
    (limits.reserved_admin_connections / 2).max(1)
}

#[cfg(test)]
mod tests;
