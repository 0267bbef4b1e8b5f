//! Who is an admin: all that the gateway has to know, in as few words.

use proptest::prelude::TestCaseError;

use super::paper::{Dates, Made};

/// What becomes of a request, or of the whole connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// There is no connection: it did not come about, or has been closed.
    Gone,
    /// It is nobody's. These words stand in the answer.
    Refused(&'static str),
    /// It is an admin's.
    Welcome,
}

/// The names and certificates in force.
pub(crate) type Listing = Vec<(String, Made)>;

/// Who is at the other end of a connection, under the configuration of this moment.
pub(crate) fn judge(listing: &Listing, shown: Option<&Made>) -> Fate {
    let Some(shown) = shown else {
        return Fate::Refused("presented none");
    };
    match (name_in(listing, shown), shown.dates()) {
        (None, _) => Fate::Refused("does not list this client's certificate"),
        (Some(_), Dates::Expired) => Fate::Refused("has expired"),
        (Some(_), Dates::NotYetValid) => Fate::Refused("is not valid yet"),
        (Some(_), Dates::Valid) => Fate::Welcome,
    }
}

/// By whose name it is listed, byte for byte.
pub(crate) fn name_in<'a>(listing: &'a Listing, shown: &Made) -> Option<&'a str> {
    let same = listing.iter().find(|(_, listed)| listed.der == shown.der);
    same.map(|(name, _)| name.as_str())
}

/// What is known of an open connection.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) shown: Option<Made>,
    was_listed: bool,
    /// It may have been closed, or be closed at any moment.
    pub(crate) may_be_gone: bool,
}

impl Known {
    pub(crate) fn new(shown: Option<Made>, may_be_gone: bool) -> Self {
        Self {
            shown,
            was_listed: false,
            may_be_gone,
        }
    }

    /// Who was listed and is not any more loses the connection.
    pub(crate) fn see(&mut self, listing: &Listing) {
        let is_listed = self
            .shown
            .as_ref()
            .is_some_and(|shown| name_in(listing, shown).is_some());
        self.may_be_gone |= self.was_listed && !is_listed;
        self.was_listed |= is_listed;
    }

    /// Holds what was seen against what must be.
    pub(crate) fn hold(&mut self, expected: Fate, seen: Fate) -> Result<(), TestCaseError> {
        let is_right = seen == expected || (self.may_be_gone && seen == Fate::Gone);
        // It is told that it will be closed.
        self.may_be_gone |= matches!(seen, Fate::Refused(_));
        match is_right {
            true => Ok(()),
            false => Err(TestCaseError::fail(format!("expected {expected:?}, saw {seen:?}"))),
        }
    }
}
