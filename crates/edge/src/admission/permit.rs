//! The permit of one connection.

use std::future::pending;
use std::sync::Arc;

use super::connections::{Connections, Slot};
use super::per_ip::ClientBucket;
use super::public_queue::Stranger;
use super::reject_counters::RejectCounters;
use super::reject_reason::RejectReason;

/// An admitted connection, which counts until the permit is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    connections: Arc<Connections>,
    cases: Arc<RejectCounters>,
    held: Slot,
}

impl ConnectionPermit {
    pub(super) fn new(connections: Arc<Connections>, cases: Arc<RejectCounters>, held: Slot) -> Self {
        Self {
            connections,
            cases,
            held,
        }
    }

    /// Turns the permit into an administrator's after a listed certificate was presented. Returns `false` if the connection
    /// has already been evicted.
    #[must_use]
    pub fn promote(&mut self) -> bool {
        if let Slot::PreauthQueue(evicted) = &self.held {
            if !self.connections.promote(evicted) {
                return false;
            }
            self.held = Slot::Admin;
        }
        true
    }

    /// Returns whether a new connection can evict this one.
    pub fn is_evictable(&self) -> bool {
        !matches!(self.held, Slot::Admin)
    }

    /// Returns whether this connection has evicted another one on the public port.
    pub fn has_evicted(&self) -> bool {
        self.stranger().is_some_and(|stranger| stranger.has_evicted)
    }

    /// Completes when the connection is evicted. An administrator's connection is never evicted.
    pub fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let (held, cases) = (self.held.clone(), Arc::clone(&self.cases));
        async move {
            match &held {
                Slot::Admin => return pending().await,
                Slot::Stranger(stranger) => stranger.evicted.notified().await,
                Slot::PreauthQueue(evicted) => evicted.notified().await,
            }
            if !cases.count(RejectReason::Evicted) {
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
        self.connections.release(&self.held);
    }
}
