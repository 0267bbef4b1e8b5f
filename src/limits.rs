//! Who may connect, and how much of us a client may take: one count for all workers, kept over reloads.
//!
//! - The **public** port may use all of `limits.connections` but the `limits.admin_connections` that are kept back, and each
//!   address only so many of them. A download beside the first one of a connection counts as another connection.
//!   When the port is full, whoever comes displaces an idle connection of the network that has the most: see [`strangers`].
//! - What a **proxy** brings is counted as its client's, once it has said whose it is; before that, by port alone.
//! - On the **admin** port nobody is anybody until the handshake has shown a certificate that is listed. All who have not got
//!   there share half of what is kept back. When that is full, whoever comes displaces the one who has waited longest of the
//!   address that has the most: a crowd displaces itself, and an admin needs but the time of a handshake.
//!
//! [`Access`] judges an address, [`address`] counts by it, [`Pace`] is how slowly an answer may be taken, a [`Reader`] holds
//! memory until it has taken its answers, [`descriptors`] is what the system allows.

mod access;
pub mod address;
mod answers;
pub mod descriptors;
mod pace;
mod place;
mod strangers;
mod unannounced;
mod unproven;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::access::Access;
pub use self::address::Address;
use self::address::{Addresses, Group};
use self::answers::Answers;
pub use self::answers::{Booking, Reader};
pub use self::pace::{Alarm, Pace};
use self::place::Held;
pub use self::place::Place;
pub use self::strangers::Stranger;
use self::strangers::Strangers;
pub use self::unannounced::Unannounced;
use self::unproven::Unproven;
use crate::config::Limits;
use crate::net::Port;

/// The log has one line of an episode, and then none until so many seconds have gone by without another such case.
const QUIET: u64 = 60;

/// Why somebody is not served, or no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Too many connections from one address on the public port.
    Address,
    /// No file descriptors left.
    Descriptors,
    /// Filters and searches of one address have taken too much CPU time.
    Cpu,
    /// Others came: on the admin port while it had not shown a listed certificate yet, on the public one while it was idle.
    Displaced,
    /// No connection left that this port may use.
    Full,
    /// `deny`, or not `allow`.
    Network,
    /// Too many requests from one address.
    Requests,
    /// It did not take its answer.
    Stalled,
    /// Too many of whom their proxy has not said yet who they are.
    Unannounced,
    /// Its unread answers held too much memory.
    Unread,
}

impl Reason {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::Address,
        Self::Cpu,
        Self::Descriptors,
        Self::Displaced,
        Self::Full,
        Self::Network,
        Self::Requests,
        Self::Stalled,
        Self::Unannounced,
        Self::Unread,
    ];
}

/// Counts who is there.
#[derive(Debug)]
pub struct Limiter {
    present: Mutex<Present>,
    answers: Answers,
    cases: [Cases; Reason::ALL.len()],
    since: Instant,
}

#[derive(Debug, Default)]
struct Present {
    /// On the public port.
    strangers: Strangers,
    /// On the admin port, with a listed certificate.
    admins: usize,
    /// On the admin port, without.
    unproven: Unproven,
    addresses: Addresses,
    /// By proxies, on each port.
    unannounced: [usize; 2],
}

/// Of one [`Reason`].
#[derive(Debug, Default)]
struct Cases {
    count: AtomicU64,
    /// In seconds.
    last: AtomicU64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            present: Mutex::default(),
            answers: Answers::default(),
            cases: Default::default(),
            since: Instant::now(),
        }
    }
}

impl Limiter {
    /// Whether a client may connect, by its own address. It may for as long as it holds the [`Place`].
    pub fn admit(
        self: &Arc<Self>,
        port: Port,
        client: IpAddr,
        access: &Access,
        limits: &Limits,
    ) -> Result<Place, Reason> {
        let held = match access.permits(client) {
            false => Err(Reason::Network),
            true => self.present().admit(port, client, limits),
        };
        match held {
            Ok(held) => Ok(Place::new(Arc::clone(self), held)),
            Err(reason) => Err(self.refuse(reason, port, client, limits)),
        }
    }

    /// Whether a proxy may begin a connection, of which it has yet to say whose it is.
    pub fn expect_client(self: &Arc<Self>, port: Port, proxy: IpAddr, limits: &Limits) -> Result<Unannounced, Reason> {
        let at_most = match port {
            Port::Admin => limits.admin_connections,
            Port::Public => limits.connections_of(port),
        };
        let mut present = self.present();
        let unannounced = present.unannounced(port);
        if *unannounced >= at_most {
            drop(present);
            return Err(self.refuse(Reason::Unannounced, port, proxy, limits));
        }
        *unannounced += 1;
        Ok(Unannounced::new(Arc::clone(self), port))
    }

    /// Counts a request of whoever has no [`Place`] that does; fails with the time until one more is allowed.
    pub fn book(&self, client: IpAddr, requests_a_second: u32) -> Result<(), Duration> {
        // As for connections: it may be a proxy with many clients.
        if client.is_loopback() {
            return Ok(());
        }
        let address = self.present().addresses.of(client);
        address.book(requests_a_second)
    }

    fn refuse(&self, reason: Reason, port: Port, client: IpAddr, limits: &Limits) -> Reason {
        let begins = self.count(reason);
        tracing::debug!(%port, %client, ?reason, "refused a connection");
        if begins {
            tell(reason, port, client, limits);
        }
        reason
    }

    /// Counts a case; `true` for the first one of an episode, which the log should tell of.
    pub fn count(&self, reason: Reason) -> bool {
        let cases = &self.cases[reason as usize];
        cases.count.fetch_add(1, Ordering::Relaxed);
        // Later than an episode that there was not.
        let now = self.since.elapsed().as_secs() + QUIET;
        cases.last.swap(now, Ordering::Relaxed) + QUIET <= now
    }

    /// How many cases there were.
    pub fn cases(&self, reason: Reason) -> u64 {
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

    fn present(&self) -> MutexGuard<'_, Present> {
        // Whoever has panicked has changed one number or none.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(reason: Reason, port: Port, client: IpAddr, limits: &Limits) {
    match reason {
        Reason::Address => tracing::info!(
            "limits.connections_per_address: refused a connection from {client}, which has {} already; no more of this is \
             told until a minute has gone by without it",
            limits.connections_per_address
        ),
        Reason::Full => tracing::warn!(
            "limits.connections: refused a connection on the {port} port, which has no more of the {}, {} of them kept back for \
             admins; no more of this is told until a minute has gone by without it",
            limits.connections,
            limits.admin_connections
        ),
        Reason::Unannounced => tracing::warn!(
            "limits.connections: refused a connection on the {port} port by the proxy {client}, which has not said yet whose the \
             others are; no more of this is told until a minute has gone by without it"
        ),
        // Told where it happens, or by the one who wanted it so.
        Reason::Cpu
        | Reason::Descriptors
        | Reason::Displaced
        | Reason::Network
        | Reason::Requests
        | Reason::Stalled
        | Reason::Unread => {}
    }
}

impl Present {
    fn unannounced(&mut self, port: Port) -> &mut usize {
        &mut self.unannounced[port as usize]
    }

    fn admit(&mut self, port: Port, client: IpAddr, limits: &Limits) -> Result<Held, Reason> {
        let all = self.strangers.len() + self.admins + self.unproven.len();
        match port {
            Port::Admin => {
                let is_full = self.unproven.len() >= unproven_at_most(limits);
                // Whoever is displaced leaves a place.
                if all >= limits.connections && !is_full {
                    return Err(Reason::Full);
                }
                Ok(Held::Unproven(self.unproven.enter(client, is_full)))
            }
            Port::Public => {
                let kept_back = limits.admin_connections;
                let at_most = limits.connections.saturating_sub(kept_back);
                let is_full = all >= limits.connections || self.strangers.len() >= at_most;
                // This machine is not one client, but a proxy with many, or somebody who may do worse things to us.
                let address = match client.is_loopback() {
                    true => None,
                    false => {
                        let address = self.addresses.enter(client, limits.connections_per_address);
                        Some(address.ok_or(Reason::Address)?)
                    }
                };
                let group = Group::of(client);
                if is_full {
                    let Some(displaced) = self.strangers.displace_for(group) else {
                        if let Some(address) = &address {
                            self.addresses.leave(address);
                        }
                        return Err(Reason::Full);
                    };
                    if let Some(address) = &displaced.address {
                        self.addresses.leave(address);
                    }
                }
                Ok(Held::Stranger(self.strangers.enter(group, address, is_full)))
            }
        }
    }
}

/// All who have not shown a listed certificate on the admin port, together. The other half is the admins' own.
fn unproven_at_most(limits: &Limits) -> usize {
    (limits.admin_connections / 2).max(1)
}

#[cfg(test)]
mod tests;
