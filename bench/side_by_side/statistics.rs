//! Medians, quartiles, and random order.

use std::hash::{BuildHasher, RandomState};

/// A median and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Computes the spread; `None` if there are no samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Interpolates between the two nearest samples.
        let at = |part: f64| {
            let place = part * last as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        })
    }
}

/// Returns the sample below which the given fraction of the samples lies.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = (part * sorted.len() as f64) as usize;
    sorted[place.min(sorted.len() - 1)]
}

/// Shuffles the items randomly.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    for end in (1..items.len()).rev() {
        let random = RandomState::new().hash_one(end);
        items.swap(end, (random % (end as u64 + 1)) as usize);
    }
}
