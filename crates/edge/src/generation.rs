//! Tracking of the readers of old snapshots.
//!
//! A response that a client reads slowly keeps its whole snapshot in memory. While images change, each such reader may
//! keep a different one. Replaced snapshots therefore share a memory budget; when they exceed it, the readers of the
//! oldest ones are reset.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::admission::Reader;

/// Memory budget of all replaced snapshots together, in bytes. The most recent one is exempt, so that its readers can
/// finish.
const BUDGET: usize = 32 << 20;

/// Memory accounting of one snapshot and its readers.
#[derive(Debug)]
pub struct Generation {
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    readers: HashMap<u64, Arc<Reader>>,
    is_retired: bool,
}

/// The memory that a response holds until it is sent. Replies carry it as an extension.
#[derive(Clone, Debug)]
pub struct Holds {
    /// Generation of the snapshot that the response reads.
    pub generation: Arc<Generation>,
    /// Memory allocated for this response alone, in bytes.
    pub own: usize,
}

impl Generation {
    /// Creates the generation of a snapshot of `size` bytes.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            state: Mutex::default(),
        })
    }

    /// Registers a reader until the lease is dropped. If the generation is already retired, evicts the reader
    /// immediately.
    pub fn lend(self: &Arc<Self>, reader: &Arc<Reader>) -> Lease {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.readers.insert(number, Arc::clone(reader));
        let is_retired = state.is_retired;
        drop(state);
        if is_retired {
            reader.evict();
        }
        Lease {
            generation: Arc::clone(self),
            number,
        }
    }

    fn retire(&self) {
        let readers = {
            let mut state = self.state();
            state.is_retired = true;
            std::mem::take(&mut state.readers)
        };
        for reader in readers.values() {
            reader.evict();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registration of a client that reads a snapshot.
#[derive(Debug)]
pub struct Lease {
    generation: Arc<Generation>,
    number: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.generation.state().readers.remove(&self.number);
    }
}

/// The replaced snapshots, oldest first.
#[derive(Debug, Default)]
pub struct OldGenerations(Mutex<Vec<Weak<Generation>>>);

impl OldGenerations {
    /// Adds a replaced snapshot, and retires the oldest ones if the budget is exceeded.
    pub fn add(&self, generation: &Arc<Generation>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|old| old.strong_count() > 0);
        all.push(Arc::downgrade(generation));
        let alive: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        let mut held = 0;
        for (age, old) in alive.iter().rev().enumerate() {
            held += old.size;
            if age > 0 && held > BUDGET {
                old.retire();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::admission::Limiter;

    fn is_evicted(reader: &Reader) -> bool {
        let mut evicted = pin!(reader.evicted());
        evicted
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn readers_of_the_oldest_snapshots_are_evicted_over_budget() {
        let limiter = Arc::new(Limiter::default());
        let old = OldGenerations::default();
        let reader = |_| limiter.reader([192, 0, 2, 1].into());
        let readers: Vec<_> = (0..4).map(reader).collect();
        let generations: Vec<_> = readers.iter().map(|_| Generation::new(BUDGET / 2)).collect();
        let mut leases: Vec<_> = generations
            .iter()
            .zip(&readers)
            .map(|(one, reader)| one.lend(reader))
            .collect();
        // A client that has read its response holds no lease.
        drop(leases.remove(1));
        let mut generations = generations.into_iter();
        for generation in generations.by_ref().take(3) {
            old.add(&generation);
        }
        assert!(readers.iter().all(|reader| !is_evicted(reader)));
        old.add(&generations.next().expect("four generations"));
        let evicted: Vec<_> = readers.iter().map(|reader| is_evicted(reader)).collect();
        assert_eq!(evicted, [true, false, false, false]);
    }

    #[test]
    fn the_newest_old_snapshot_may_exceed_the_budget() {
        let reader = Arc::new(Limiter::default()).reader([192, 0, 2, 1].into());
        let (old, large) = (OldGenerations::default(), Generation::new(2 * BUDGET));
        let _lease = large.lend(&reader);
        old.add(&large);
        assert!(!is_evicted(&reader));
        old.add(&Generation::new(1));
        assert!(is_evicted(&reader));
        // A client that got the snapshot before it was retired, and reads it later, is evicted too.
        let late = Arc::new(Limiter::default()).reader([192, 0, 2, 2].into());
        let _lease = large.lend(&late);
        assert!(is_evicted(&late));
    }
}
