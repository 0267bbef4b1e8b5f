//! Rounds: every contender does the same work, one after the other, in a different order each time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::contenders::Contender;
use crate::measure::Watch;
use crate::site::Site;
use crate::statistics::shuffle;

/// The maximum number of attempts for a disturbed round.
const ATTEMPTS: usize = 4;
/// The maximum total time for repetitions, so that the benchmark also ends on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The remaining time for repetitions.
#[derive(Clone, Debug)]
pub(crate) struct Patience(Rc<Cell<Duration>>);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(PATIENCE)))
    }

    /// Returns the time that has been spent.
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

/// All contenders, and the site behind them.
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

    /// Takes a sample of each contender in `taking_part`, in that order. Also returns whether other load disturbed the round.
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

    /// Returns all processes that belong to the benchmark.
    fn pids(&self) -> Vec<u32> {
        let own = std::iter::once(std::process::id());
        let theirs = self.contenders.iter().flat_map(Contender::pids);
        own.chain(self.site.pids()).chain(theirs).collect()
    }
}
