//! Counters and histograms in memory, and the labels that distinguish them. Each module defines its own and updates it
//! without locks or look-ups; monitoring reads them.

pub mod label;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Increases the counter.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One bucket per bound, and one for larger values. The counts are not cumulative.
    buckets: [Counter; BOUNDS.len() + 1],
    microseconds: Counter,
}

/// Upper bounds in microseconds. They range from a response out of memory to a download over a slow link.
const BOUNDS: [u64; 10] = [
    500,
    2_500,
    10_000,
    50_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    180_000_000,
    1_800_000_000,
];

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS.len())].add(1);
        self.microseconds.add(microseconds);
    }
}

/// The sum of several histograms.
#[derive(Debug, Default)]
pub struct Durations {
    /// Sum of all durations in seconds.
    pub sum: f64,
    /// Number of durations.
    pub count: u64,
    /// Upper bounds in seconds with the count of each bucket. The counts are not cumulative.
    pub buckets: Vec<(f64, u64)>,
}

impl<'a> FromIterator<&'a Histogram> for Durations {
    fn from_iter<T: IntoIterator<Item = &'a Histogram>>(histograms: T) -> Self {
        let mut counts = [0; BOUNDS.len() + 1];
        let mut microseconds = 0;
        for histogram in histograms {
            microseconds += histogram.microseconds.value();
            for (sum, bucket) in counts.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.value();
            }
        }
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        Self {
            sum: seconds(microseconds),
            count: counts.iter().sum(),
            buckets: bounds.zip(counts).collect(),
        }
    }
}

fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}
