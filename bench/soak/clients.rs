//! The clients: each performs random actions, one after the other, until the end.

mod admins;
mod holders;
mod hostile;
mod strangers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::Scope;
use std::time::Instant;

use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::Site;

/// The result of an action. The error contains the outcome if it is not [`Outcome::Right`].
type Done = Result<(), Outcome>;
type Deed<Own> = (&'static str, fn(&Site, &Own, &mut Dice) -> Done);

/// Starts all clients.
pub(crate) fn send<'scope>(site: &'scope Site, scope: &'scope Scope<'scope, '_>, seed: u64) {
    for number in 0..3 {
        let own = strangers::Stranger::new(site);
        scope.spawn(move || keep_on(site, &strangers::DEEDS, &own, Dice::of(seed, 100 + number)));
    }
    for number in 0..2 {
        let own = admins::Admin::new(site, number);
        scope.spawn(move || keep_on(site, &admins::DEEDS, &own, Dice::of(seed, 200 + number)));
    }
    scope.spawn(move || keep_on(site, &hostile::DEEDS, &(), Dice::of(seed, 300)));
    scope.spawn(move || keep_on(site, &holders::DEEDS, &(), Dice::of(seed, 400)));
}

fn keep_on<Own>(site: &Site, deeds: &[Deed<Own>], own: &Own, mut dice: Dice) {
    while !site.is_done() {
        let (name, deed) = dice.pick(deeds);
        let begun = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| deed(site, own, &mut dice)));
        let outcome = match done {
            Ok(Ok(())) => Outcome::Right,
            Ok(Err(outcome)) => outcome,
            Err(panic) => Outcome::Wrong(
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                    .unwrap_or_default(),
            ),
        };
        site.ledger.enter(name, begun, outcome);
        // A moderate load for hours, not the maximum load.
        site.pause(dice.time(0, 400));
    }
}

/// Returns an error with this reason if the result is wrong.
fn holds(is_right: bool, otherwise: impl FnOnce() -> String) -> Done {
    match is_right {
        true => Ok(()),
        false => Err(Outcome::Wrong(otherwise())),
    }
}
