//! A connection's place among those that there may be.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Address, Limiter, Reason, Stranger};

/// A connection's right to be there, which ends when this is dropped.
#[derive(Debug)]
pub struct Place {
    limiter: Arc<Limiter>,
    held: Held,
}

#[derive(Clone, Debug)]
pub(super) enum Held {
    Admin,
    Stranger(Arc<Stranger>),
    /// Told when it is displaced.
    Unproven(Arc<Notify>),
}

impl Place {
    pub(super) fn new(limiter: Arc<Limiter>, held: Held) -> Self {
        Self { limiter, held }
    }

    /// Makes it an admin's, who has shown a listed certificate; `false` if others have come before.
    #[must_use]
    pub fn prove(&mut self) -> bool {
        if let Held::Unproven(displaced) = &self.held {
            let mut present = self.limiter.present();
            if !present.unproven.leave(displaced) {
                return false;
            }
            present.admins += 1;
            drop(present);
            self.held = Held::Admin;
        }
        true
    }

    /// Whether it can no longer be lost to others.
    pub fn is_safe(&self) -> bool {
        matches!(self.held, Held::Admin)
    }

    /// Whether another connection on the public port is being closed for this one.
    pub fn has_displaced(&self) -> bool {
        self.stranger().is_some_and(|stranger| stranger.has_displaced)
    }

    /// Completes when others have come and this one must go. An admin's place is never lost.
    pub fn displaced(&self) -> impl Future<Output = ()> + use<> {
        let (held, limiter) = (self.held.clone(), Arc::clone(&self.limiter));
        async move {
            match &held {
                Held::Admin => return pending().await,
                Held::Stranger(stranger) => stranger.displaced.notified().await,
                Held::Unproven(displaced) => displaced.notified().await,
            }
            if !limiter.count(Reason::Displaced) {
                return;
            }
            match held {
                Held::Stranger(_) => tracing::info!(
                    "limits.connections: the public port is full; idle connections are closed for new ones, those of the network \
                     that has the most first. No more of this is told until a minute has gone by without it"
                ),
                _ => tracing::warn!(
                    "limits.admin_connections: more clients without a listed certificate than half of it; those who have waited \
                     longest are closed. No more of this is told until a minute has gone by without it"
                ),
            }
        }
    }

    /// By what its requests are counted.
    pub fn address(&self) -> Option<Arc<Address>> {
        self.stranger()?.address.clone()
    }

    /// What is told of its answers, on the public port.
    pub fn stranger(&self) -> Option<&Arc<Stranger>> {
        match &self.held {
            Held::Stranger(stranger) => Some(stranger),
            Held::Admin | Held::Unproven(_) => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.limiter.present();
        match &self.held {
            Held::Admin => present.admins -= 1,
            Held::Stranger(stranger) => {
                // Unless it has been displaced.
                if present.strangers.leave(stranger)
                    && let Some(address) = &stranger.address
                {
                    present.addresses.leave(address);
                }
            }
            Held::Unproven(displaced) => {
                // Unless it has been displaced.
                present.unproven.leave(displaced);
            }
        }
    }
}
