//! Rounds: every contender does the same, one after the other, in another order each time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::contenders::Contender;
use crate::measure::Watch;
use crate::site::Site;
use crate::statistics::shuffle;

/// How often a disturbed round is done again, at most.
const ATTEMPTS: usize = 4;
/// What may be spent on that in all, so that a machine that is never quiet ends the bench too.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is left of it.
#[derive(Clone, Debug)]
pub(crate) struct Patience(Rc<Cell<Duration>>);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(PATIENCE)))
    }

    /// What has been spent.
    pub(crate) fn spent(&self) -> Duration {
        PATIENCE - self.0.get()
    }

    fn take(&self, spent: Duration) {
        self.0.set(self.0.get().saturating_sub(spent));
    }

    fn is_over(&self) -> bool {
        self.0.get().is_zero()
    }
}

/// Everybody at once, and what they stand in front of.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) site: Site,
    pub(crate) contenders: Vec<Contender>,
    patience: Patience,
}

impl Field {
    pub(crate) fn new(site: Site, contenders: Vec<Contender>, patience: &Patience) -> Self {
        Self {
            site,
            contenders,
            patience: patience.clone(),
        }
    }

    /// One round of samples, in the order of `taking_part`, and whether something else used the machine meanwhile.
    pub(crate) async fn round<T>(
        &self,
        taking_part: &[usize],
        mut sample: impl AsyncFnMut(&Contender) -> Result<T>,
    ) -> Result<(Vec<T>, bool)> {
        for attempt in 1.. {
            let mut order: Vec<_> = (0..taking_part.len()).collect();
            shuffle(&mut order);
            let mut samples: Vec<Option<T>> = taking_part.iter().map(|_| None).collect();
            let begun = Instant::now();
            let watch = Watch::begin(self.pids())?;
            for index in order {
                let contender = &self.contenders[taking_part[index]];
                let taken = sample(contender).await;
                samples[index] = Some(taken.map_err(|error| format!("{}: {error}", contender.kind))?);
            }
            let was_disturbed = watch.was_disturbed()?;
            if !was_disturbed || attempt == ATTEMPTS || self.patience.is_over() {
                return Ok((samples.into_iter().flatten().collect(), was_disturbed));
            }
            self.patience.take(begun.elapsed());
        }
        unreachable!("the last attempt returns")
    }

    /// All processes whose work is known.
    fn pids(&self) -> Vec<u32> {
        let own = std::iter::once(std::process::id());
        let theirs = self.contenders.iter().flat_map(Contender::pids);
        own.chain(self.site.pids()).chain(theirs).collect()
    }
}
