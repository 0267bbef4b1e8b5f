//! A connection's place among those that there may be.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{ClientBucket, Limiter, RejectReason, Stranger};

/// A connection's right to be there, which ends when this is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<Limiter>,
    held: Slot,
}

#[derive(Clone, Debug)]
pub(super) enum Slot {
    Admin,
    Stranger(Arc<Stranger>),
    /// Told when it is displaced.
    PreauthQueue(Arc<Notify>),
}

impl ConnectionPermit {
    pub(super) fn new(limiter: Arc<Limiter>, held: Slot) -> Self {
        Self { limiter, held }
    }

    /// Makes it an admin's, who has shown a listed certificate; `false` if others have come before.
    #[must_use]
    pub fn promote(&mut self) -> bool {
        if let Slot::PreauthQueue(evicted) = &self.held {
            let mut present = self.limiter.present();
            if !present.unproven.release(evicted) {
                return false;
            }
            present.admins += 1;
            drop(present);
            self.held = Slot::Admin;
        }
        true
    }

    /// Whether it can no longer be lost to others.
    pub fn is_evictable(&self) -> bool {
        !matches!(self.held, Slot::Admin)
    }

    /// Whether another connection on the public port is being closed for this one.
    pub fn has_displaced(&self) -> bool {
        self.stranger().is_some_and(|stranger| stranger.has_displaced)
    }

    /// Completes when others have come and this one must go. An admin's place is never lost.
    pub fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let (held, limiter) = (self.held.clone(), Arc::clone(&self.limiter));
        async move {
            match &held {
                Slot::Admin => return pending().await,
                Slot::Stranger(stranger) => stranger.evicted.notified().await,
                Slot::PreauthQueue(evicted) => evicted.notified().await,
            }
            if !limiter.count(RejectReason::Evicted) {
                return;
            }
            match held {
                Slot::Stranger(_) => tracing::info!(
                    "limits.max_connections: the public port is full; idle connections are closed for new ones, those of the network \
                     that has the most first. No more of this is told until a minute has gone by without it"
                ),
                _ => tracing::warn!(
                    "limits.reserved_admin_connections: more clients without a listed certificate than half of it; those who have waited \
                     longest are closed. No more of this is told until a minute has gone by without it"
                ),
            }
        }
    }

    /// By what its requests are counted.
    pub fn address(&self) -> Option<Arc<ClientBucket>> {
        self.stranger()?.address.clone()
    }

    /// What is told of its answers, on the public port.
    pub fn stranger(&self) -> Option<&Arc<Stranger>> {
        match &self.held {
            Slot::Stranger(stranger) => Some(stranger),
            Slot::Admin | Slot::PreauthQueue(_) => None,
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut present = self.limiter.present();
        match &self.held {
            Slot::Admin => present.admins -= 1,
            Slot::Stranger(stranger) => {
                // Unless it has been displaced.
                if present.strangers.release(stranger)
                    && let Some(address) = &stranger.address
                {
                    present.addresses.release(address);
                }
            }
            Slot::PreauthQueue(evicted) => {
                // Unless it has been displaced.
                present.unproven.release(evicted);
            }
        }
    }
}
