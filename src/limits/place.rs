//! A connection's place among those that there may be.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Address, Limiter, Reason};

/// A connection's right to be there, which ends when this is dropped.
#[derive(Debug)]
pub struct Place {
    limiter: Arc<Limiter>,
    held: Held,
}

#[derive(Debug)]
pub(super) enum Held {
    Admin,
    /// Without an address for clients of this machine.
    Stranger(Option<Arc<Address>>),
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
        !matches!(self.held, Held::Unproven(_))
    }

    /// Completes when others have come and this one must go. An admin's place is never lost, nor one on the public port.
    pub fn displaced(&self) -> impl Future<Output = ()> + use<> {
        let displaced = match &self.held {
            Held::Unproven(displaced) => Some((Arc::clone(displaced), Arc::clone(&self.limiter))),
            Held::Admin | Held::Stranger(_) => None,
        };
        async move {
            let Some((displaced, limiter)) = displaced else {
                return pending().await;
            };
            displaced.notified().await;
            if limiter.count(Reason::Displaced) {
                tracing::warn!(
                    "limits.admin_connections: more clients without a listed certificate than half of it; those who have waited \
                     longest are closed. No more of this is told until a minute has gone by without it"
                );
            }
        }
    }

    /// By what its requests are counted.
    pub fn address(&self) -> Option<Arc<Address>> {
        match &self.held {
            Held::Stranger(address) => address.clone(),
            Held::Admin | Held::Unproven(_) => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.limiter.present();
        match &self.held {
            Held::Admin => present.admins -= 1,
            Held::Stranger(address) => {
                present.strangers -= 1;
                if let Some(address) = address {
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
