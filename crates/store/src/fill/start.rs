//! The beginning of a fill: room is made for it, and the index gets to know it.

use std::sync::Arc;
use std::time::Instant;

use super::{ClaimedFill, Fill};
use crate::digest::Digest;
use crate::error::ClaimError;
use crate::index::LookUp;
use crate::progress::FillShared;
use crate::shared::Shared;
use crate::space::Space;

impl Fill {
    /// Makes room and registers a fill. `None` if the image, or another fill of it, has come in the meantime.
    pub(crate) async fn start(
        store: &Arc<Shared>,
        fingerprint: &Digest,
        size: u64,
    ) -> Result<Option<Self>, ClaimError> {
        let (claim, deletion) = {
            let mut index = store.lock();
            if !matches!(index.look_up(fingerprint), LookUp::Missing) {
                return Ok(None);
            }
            if index.suspended_until.is_some_and(|until| Instant::now() < until) {
                return Err(ClaimError::Suspended);
            }
            let excess = store.usage.bytes().saturating_add(size).saturating_sub(store.limit);
            let Some(turnover) = index
                .turnover
                .after(excess, store.limit, store.turnover, Instant::now())
            else {
                store.counters.no_room.add(1);
                return Err(ClaimError::Turnover);
            };
            let Some(victims) = index.evict(excess) else {
                store.counters.no_room.add(1);
                return Err(ClaimError::NoRoom {
                    needed: size,
                    limit: store.limit,
                });
            };
            index.turnover = turnover;
            store.counters.evicted.add(victims as u64);
            let shared = Arc::new(FillShared::new(*fingerprint));
            index.fills.insert(*fingerprint, Arc::clone(&shared));
            let space = Space::take(&store.usage, size);
            let deletion = (victims > 0).then(|| store.delete_later());
            let store = Arc::clone(store);
            (ClaimedFill { store, shared, space }, deletion)
        };
        let fill = Self { claim, limit: size };
        store.counters.misses.add(1);
        if let Some(deletion) = deletion {
            // The disk may be as full as the store.
            drop(deletion.await);
        }
        Ok(Some(fill))
    }
}
