//! The outcomes of all client actions, judged against the faults at that time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::faults::Fault;

/// How long after the recovery an action may still fail, on a shared machine.
const AFTERMATH: Duration = Duration::from_secs(15);

/// The outcome of one client action.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The expected result, with every byte verified.
    Right,
    /// A failure that was reported to the client. It is acceptable during a fault, and wrong otherwise.
    Told(String),
    /// A false success, or an unexpected response.
    Wrong(String),
}

/// The number of outcomes of one kind of action.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) right: u64,
    pub(crate) told: u64,
    pub(crate) wrong: u64,
}

/// A fault and its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) fault: Fault,
    pub(crate) begun: Instant,
    /// When the cause ended.
    pub(crate) ended: Option<Instant>,
    /// When service was restored.
    pub(crate) over: Option<Instant>,
}

/// All faults and outcomes.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    faults: Mutex<Vec<Entry>>,
    counts: Mutex<BTreeMap<&'static str, Count>>,
    wrongs: Mutex<Vec<String>>,
}

impl Ledger {
    pub(crate) fn begin(&self, fault: Fault) {
        lock(&self.faults).push(Entry {
            fault,
            begun: Instant::now(),
            ended: None,
            over: None,
        });
    }

    pub(crate) fn cause_is_gone(&self) {
        if let Some(entry) = lock(&self.faults).last_mut() {
            entry.ended = Some(Instant::now());
        }
    }

    pub(crate) fn is_over(&self) {
        if let Some(entry) = lock(&self.faults).last_mut() {
            entry.over = Some(Instant::now());
        }
    }

    /// Records an action that began at `begun` and has ended now.
    pub(crate) fn enter(&self, what: &'static str, begun: Instant, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Told(why) if !self.is_excused(begun) => Outcome::Wrong(format!("no fault was near: {why}")),
            other => other,
        };
        let mut counts = lock(&self.counts);
        let count = counts.entry(what).or_default();
        match outcome {
            Outcome::Right => count.right += 1,
            Outcome::Told(_) => count.told += 1,
            Outcome::Wrong(why) => {
                count.wrong += 1;
                drop(counts);
                self.wrong(format!("{what}: {why}"));
            }
        }
    }

    /// Records an error that must never happen.
    pub(crate) fn wrong(&self, what: String) {
        let shortened: String = what.chars().take(1500).collect();
        eprintln!("WRONG: {shortened}");
        lock(&self.wrongs).push(shortened);
    }

    fn is_excused(&self, since: Instant) -> bool {
        let faults = lock(&self.faults);
        let mut excusing = faults.iter().filter(|entry| entry.fault.excuses());
        excusing.any(|entry| entry.over.is_none_or(|over| since < over + AFTERMATH))
    }

    pub(crate) fn faults(&self) -> Vec<Entry> {
        lock(&self.faults).clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, Count> {
        lock(&self.counts).clone()
    }

    pub(crate) fn total(&self) -> Count {
        lock(&self.counts).values().fold(Count::default(), |sum, count| Count {
            right: sum.right + count.right,
            told: sum.told + count.told,
            wrong: sum.wrong + count.wrong,
        })
    }

    pub(crate) fn wrongs(&self) -> Vec<String> {
        lock(&self.wrongs).clone()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
