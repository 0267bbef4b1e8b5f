//! The permit of one connection.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{ClientBucket, Limiter, RejectReason, Stranger};

/// An admitted connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<Limiter>,
    held: Slot,
}

#[derive(Clone, Debug)]
pub(super) enum Slot {
    Admin,
    Stranger(Arc<Stranger>),
    /// Notified on eviction.
    PreauthQueue(Arc<Notify>),
}

impl ConnectionPermit {
    pub(super) fn new(limiter: Arc<Limiter>, held: Slot) -> Self {
        Self { limiter, held }
    }

    /// Turns the permit into an administrator's after a listed certificate was presented. Returns `false` if the connection
    /// has already been evicted.
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

    /// Returns whether a new connection can evict this one.
    pub fn is_evictable(&self) -> bool {
        !matches!(self.held, Slot::Admin)
    }

    /// Returns whether this connection has evicted another one on the public port.
    pub fn has_displaced(&self) -> bool {
        self.stranger().is_some_and(|stranger| stranger.has_displaced)
    }

    /// Completes when the connection is evicted. An administrator's connection is never evicted.
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
                    "limits.max_connections: the public port is full; new connections evict idle ones, first those of \
                     the network with the most connections; further evictions are not logged until a minute passes \
                     without any"
                ),
                _ => tracing::warn!(
                    "limits.reserved_admin_connections: clients without a listed certificate use half of it; new \
                     connections evict the oldest of them; further evictions are not logged until a minute passes \
                     without any"
                ),
            }
        }
    }

    /// Returns the bucket that counts its requests.
    pub fn address(&self) -> Option<Arc<ClientBucket>> {
        self.stranger()?.address.clone()
    }

    /// Returns the entry in the public queue that counts its responses in flight, on the public port.
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
}
