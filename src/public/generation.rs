//! Who still reads an old snapshot.
//!
//! An answer that is taken slowly keeps the snapshot that it is made of, whole. While images change, each reader may keep
//! another one: so old snapshots have a budget, and the readers of the oldest ones are reset when it is exceeded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::admission::Reader;

/// What all old snapshots together may hold, in bytes; but the last one may always be read to its end.
const BUDGET: usize = 32 << 20;

/// One snapshot's memory, for as long as anybody holds some of it.
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

/// What an answer holds until it is taken, for who books that; goes with a reply as an extension.
#[derive(Clone, Debug)]
pub struct Holds {
    /// The snapshot that it is made of.
    pub generation: Arc<Generation>,
    /// What was allocated for this answer alone, in bytes.
    pub own: usize,
}

impl Generation {
    /// Of a snapshot of so many bytes.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            state: Mutex::default(),
        })
    }

    /// Lets a client read it, for as long as it holds the lease or is not evicted.
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

/// A client's right to read a snapshot.
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

/// The snapshots that others have replaced, the oldest first.
#[derive(Debug, Default)]
pub(super) struct OldGenerations(Mutex<Vec<Weak<Generation>>>);

impl OldGenerations {
    /// One more has been replaced.
    pub(super) fn add(&self, generation: &Arc<Generation>) {
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
    fn readers_of_the_oldest_snapshots_are_evicted_beyond_the_budget() {
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
        // Whoever has read to the end holds nothing.
        drop(leases.remove(1));
        let mut generations = generations.into_iter();
        for generation in generations.by_ref().take(3) {
            old.add(&generation);
        }
        assert!(readers.iter().all(|reader| !is_evicted(reader)));
        old.add(&generations.next().expect("the fourth"));
        let evicted: Vec<_> = readers.iter().map(|reader| is_evicted(reader)).collect();
        assert_eq!(evicted, [true, false, false, false]);
    }

    #[test]
    fn the_last_snapshot_may_be_read_to_its_end_however_large_it_is() {
        let reader = Arc::new(Limiter::default()).reader([192, 0, 2, 1].into());
        let (old, large) = (OldGenerations::default(), Generation::new(2 * BUDGET));
        let _lease = large.lend(&reader);
        old.add(&large);
        assert!(!is_evicted(&reader));
        old.add(&Generation::new(1));
        assert!(is_evicted(&reader));
        // Whoever had it in hand and answers late is evicted too.
        let late = Arc::new(Limiter::default()).reader([192, 0, 2, 2].into());
        let _lease = large.lend(&late);
        assert!(is_evicted(&late));
    }
}
