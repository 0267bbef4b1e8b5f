//! The images of a snapshot that a request selects, by a filter or by the words of a search.
//!
//! A selection is computed image by image, in resumable steps. The outcome is cached per selector.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::filter::{Filter, TooComplex};

/// Maximum memory of the cached outcomes of a snapshot, in bytes. The cache is cleared when it would exceed this.
const MAX_KEPT: usize = 1 << 20;
/// Upper bound of a selector's memory, in bytes: 1 KiB of text in eight clauses or a hundred words.
const SELECTOR_SIZE: usize = 4 << 10;

/// The criterion by which a request selects images.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Selector {
    /// `?filter=`
    Filter(Filter),
    /// Words of a search on the page, in lower case.
    Words(Vec<String>),
}

impl Selector {
    /// Whether the selector matches every image.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Filter(filter) => filter.is_empty(),
            Self::Words(words) => words.is_empty(),
        }
    }
}

/// A set of images of one snapshot: a bit per image index.
#[derive(Debug)]
pub struct Matches {
    bits: Vec<u64>,
    count: usize,
}

impl Matches {
    /// Creates the set of all images of a snapshot with `images` images.
    pub fn all(images: usize) -> Self {
        let mut bits = vec![u64::MAX; images / 64];
        bits.push((1 << (images % 64)) - 1);
        Self { bits, count: images }
    }

    pub(super) fn none() -> Self {
        Self {
            bits: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn insert(&mut self, place: u32) {
        let word = place as usize / 64;
        self.bits.resize(self.bits.len().max(word + 1), 0);
        self.bits[word] |= 1 << (place % 64);
        self.count += 1;
    }

    /// Size of the set in bytes.
    pub fn size(&self) -> usize {
        size_of_val(&*self.bits)
    }

    /// Number of images in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the set contains the image at an index.
    pub fn contains(&self, place: u32) -> bool {
        let word = self.bits.get(place as usize / 64);
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Returns the first index in the set that is at least `place`.
    pub fn at_or_after(&self, place: u32) -> Option<u32> {
        let first = place as usize / 64;
        let skipped = u64::MAX << (place % 64);
        let words = self.bits.iter().enumerate().skip(first);
        let mut words = words.map(|(at, word)| (at, if at == first { word & skipped } else { *word }));
        let (at, word) = words.find(|(_, word)| *word != 0)?;
        Some(u32::try_from(at * 64).ok()? + word.trailing_zeros())
    }
}

/// Why a selector cannot be evaluated.
#[derive(Clone, Copy, Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unanswerable {
    #[error(transparent)]
    TooComplex(#[from] TooComplex),
    #[error("this filter or search takes too much CPU time; use fewer or simpler terms")]
    TooMuchCpu,
}

/// Result of evaluating a selector.
pub type Outcome = Result<Arc<Matches>, Unanswerable>;

/// The cached outcomes of one snapshot.
#[derive(Debug, Default)]
pub struct Outcomes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    outcomes: HashMap<Selector, Outcome>,
    bytes: usize,
}

impl Outcomes {
    /// Returns the cached outcome of a selector.
    pub fn get(&self, selector: &Selector) -> Option<Outcome> {
        self.lock().outcomes.get(selector).cloned()
    }

    /// Caches the outcome of a selector.
    pub fn keep(&self, selector: Selector, outcome: Outcome) {
        let size = SELECTOR_SIZE + outcome.as_ref().map_or(0, |matches| matches.size());
        let mut kept = self.lock();
        if kept.bytes + size > MAX_KEPT {
            *kept = Kept::default();
        }
        if size <= MAX_KEPT && kept.outcomes.insert(selector, outcome).is_none() {
            kept.bytes += size;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Poisoning is harmless: no code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_contains_what_was_inserted(places in prop::collection::btree_set(0_u32..1_000, 0..200)) {
            let mut matches = Matches::none();
            places.iter().for_each(|place| matches.insert(*place));
            let listed = |matches: &Matches| {
                let next = |place: &u32| matches.at_or_after(place + 1);
                std::iter::successors(matches.at_or_after(0), next).collect::<Vec<_>>()
            };
            prop_assert_eq!(listed(&matches), places.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(matches.count(), places.len());
            prop_assert!((0..1_100).all(|place| matches.contains(place) == places.contains(&place)));
            let all = Matches::all(places.len());
            prop_assert_eq!(listed(&all), (0..).take(places.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn cached_outcomes_stay_below_a_mebibyte() {
        let outcomes = Outcomes::default();
        let selector = |n: usize| Selector::Words(vec![n.to_string()]);
        for n in 0..2_000 {
            outcomes.keep(selector(n), Ok(Arc::new(Matches::all(50_000))));
            assert!(outcomes.get(&selector(n)).is_some());
            let kept = outcomes.lock();
            let held: usize = kept.outcomes.len() * (50_000 / 8);
            assert!(held <= kept.bytes && kept.bytes <= MAX_KEPT);
            assert!(n < 50 || !kept.outcomes.is_empty());
        }
        outcomes.keep(selector(2_000), Ok(Arc::new(Matches::all(MAX_KEPT * 8))));
        assert!(
            outcomes.get(&selector(2_000)).is_none(),
            "it is larger than all others together"
        );
    }
}
