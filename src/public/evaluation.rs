//! The evaluation of a selector over the images of a snapshot, in steps.

use super::filter::{Matcher, TooComplex};
use super::selection::{Matches, Selector};
use super::snapshot::Snapshot;

/// A resumable evaluation of a selector over a snapshot.
#[derive(Debug)]
pub struct Evaluation<'a> {
    snapshot: &'a Snapshot,
    test: Test<'a>,
    next: u32,
    matches: Matches,
}

#[derive(Debug)]
enum Test<'a> {
    Filter(Matcher<'a>),
    Words(&'a [String]),
}

impl<'a> Evaluation<'a> {
    /// Starts at the first image.
    pub fn new(snapshot: &'a Snapshot, selector: &'a Selector) -> Self {
        Self {
            snapshot,
            test: match selector {
                Selector::Filter(filter) => Test::Filter(filter.matcher()),
                Selector::Words(words) => Test::Words(words),
            },
            next: 0,
            matches: Matches::none(),
        }
    }

    /// Continues with at least one image, until `is_time_up` returns true. Returns `None` if images are left.
    ///
    /// # Errors
    ///
    /// Fails if a pattern exceeds its memory limit.
    pub fn advance(&mut self, mut is_time_up: impl FnMut() -> bool) -> Option<Result<Matches, TooComplex>> {
        while (self.next as usize) < self.snapshot.number_of_images() {
            match self.is_selected() {
                Ok(true) => self.matches.insert(self.next),
                Ok(false) => {}
                Err(error) => return Some(Err(error)),
            }
            self.next += 1;
            if is_time_up() {
                return None;
            }
        }
        Some(Ok(std::mem::replace(&mut self.matches, Matches::none())))
    }

    fn is_selected(&mut self) -> Result<bool, TooComplex> {
        match &mut self.test {
            Test::Filter(matcher) => matcher.matches(self.snapshot.image_at(self.next)),
            Test::Words(words) => {
                let text = self.snapshot.searchable_text(self.next);
                Ok(words.iter().all(|word| text.contains(word)))
            }
        }
    }
}
