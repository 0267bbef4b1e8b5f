//! The open connections on all listeners, counted under one lock.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::per_ip::{ClientBucket, ClientBuckets, IpPrefix};
use super::preauth_queue::PreauthQueue;
use super::public_queue::{PublicQueue, Stranger};
use super::reject_reason::RejectReason;
use crate::limits::Limits;
use crate::listener_id::Policy;

/// What an admitted connection counts as.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Admin,
    Stranger(Arc<Stranger>),
    /// Notified on eviction.
    PreauthQueue(Arc<Notify>),
}

/// All open connections.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Counts>);

impl Connections {
    /// Counts a connection until [`Self::release`].
    pub(super) fn admit(&self, policy: Policy, client: IpAddr, limits: &Limits) -> Result<Slot, RejectReason> {
        self.lock().admit(policy, client, limits)
    }

    /// Counts a connection without a listed certificate as an administrator's from now on. Returns `false` if it has
    /// already been evicted.
    pub(super) fn promote(&self, evicted: &Arc<Notify>) -> bool {
        let mut present = self.lock();
        let was_there = present.unproven.release(evicted);
        if was_there {
            present.admins += 1;
        }
        was_there
    }

    /// Counts a closed connection.
    pub(super) fn release(&self, held: &Slot) {
        let mut present = self.lock();
        match held {
            Slot::Admin => present.admins -= 1,
            Slot::Stranger(stranger) => {
                // An evicted connection was removed already.
                if present.strangers.release(stranger)
                    && let Some(address) = &stranger.address
                {
                    present.addresses.release(address);
                }
            }
            Slot::PreauthQueue(evicted) => {
                // An evicted connection was removed already.
                present.unproven.release(evicted);
            }
        }
    }

    /// Counts a connection whose PROXY header has not arrived yet, until [`Self::release_proxy`].
    pub(super) fn admit_proxy(&self, policy: Policy, limits: &Limits) -> Result<(), RejectReason> {
        let at_most = match policy {
            Policy::Authenticated => limits.reserved_admin_connections,
            Policy::Open => limits.connections_of(policy),
        };
        let mut present = self.lock();
        let unannounced = present.unannounced(policy);
        if *unannounced >= at_most {
            return Err(RejectReason::PendingProxy);
        }
        *unannounced += 1;
        Ok(())
    }

    /// Counts such a connection whose header has arrived, or that is closed.
    pub(super) fn release_proxy(&self, policy: Policy) {
        *self.lock().unannounced(policy) -= 1;
    }

    /// Returns the bucket of a client, connected or not.
    pub(super) fn address(&self, client: IpAddr) -> Arc<ClientBucket> {
        self.lock().addresses.of(client)
    }

    /// Returns the number of open connections on the listeners with this policy.
    pub(super) fn len(&self, policy: Policy) -> usize {
        let present = self.lock();
        match policy {
            Policy::Authenticated => present.admins + present.unproven.len(),
            Policy::Open => present.strangers.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // A panic while the lock was held has changed at most one number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Connections from proxies whose PROXY header has not arrived yet, per policy.
    unannounced: [usize; 2],
}

impl Counts {
    fn unannounced(&mut self, policy: Policy) -> &mut usize {
        &mut self.unannounced[policy as usize]
    }

    fn admit(&mut self, policy: Policy, client: IpAddr, limits: &Limits) -> Result<Slot, RejectReason> {
        let all = self.strangers.len() + self.admins + self.unproven.len();
        match policy {
            Policy::Authenticated => {
                let is_full = self.unproven.len() >= max_preauth(limits);
                // An eviction frees a slot, so it is possible even at the limit.
                if all >= limits.max_connections && !is_full {
                    return Err(RejectReason::Full);
                }
                Ok(Slot::PreauthQueue(self.unproven.acquire(client, is_full)))
            }
            Policy::Open => {
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
                    let Some(evicted) = self.strangers.evict_for(group) else {
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
