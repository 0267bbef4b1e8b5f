//! Who is an admin: all that the gateway has to know, in as few words.

use proptest::prelude::TestCaseError;

use super::paper::{Dates, Made};

/// The outcome of a request or of the whole connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// There is no connection: the handshake failed, or it was closed.
    Gone,
    /// Rejected; the response contains this text.
    Refused(&'static str),
    /// Accepted as an admin's.
    Welcome,
}

/// The names and certificates of the current configuration.
pub(crate) type Listing = Vec<(String, Made)>;

/// Returns the expected outcome of a request under the current configuration.
pub(crate) fn expected_fate(listing: &Listing, shown: Option<&Made>) -> Fate {
    let Some(shown) = shown else {
        return Fate::Refused("presented no certificate");
    };
    match (name_in(listing, shown), shown.dates()) {
        (None, _) => Fate::Refused("does not list this client's certificate"),
        (Some(_), Dates::Expired) => Fate::Refused("has expired"),
        (Some(_), Dates::NotYetValid) => Fate::Refused("is not valid yet"),
        (Some(_), Dates::Valid) => Fate::Welcome,
    }
}

/// Returns the name under which this exact certificate is listed.
pub(crate) fn name_in<'a>(listing: &'a Listing, shown: &Made) -> Option<&'a str> {
    let same = listing.iter().find(|(_, listed)| listed.der == shown.der);
    same.map(|(name, _)| name.as_str())
}

/// The expected state of an open connection.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) shown: Option<Made>,
    was_listed: bool,
    /// Whether it may be closed already, or be closed at any moment.
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

    /// Applies a new configuration: a client that is no longer listed loses its connection.
    pub(crate) fn apply(&mut self, listing: &Listing) {
        let is_listed = self
            .shown
            .as_ref()
            .is_some_and(|shown| name_in(listing, shown).is_some());
        self.may_be_gone |= self.was_listed && !is_listed;
        self.was_listed |= is_listed;
    }

    /// Compares the expected outcome with the observed one.
    pub(crate) fn check(&mut self, expected: Fate, seen: Fate) -> Result<(), TestCaseError> {
        let is_right = seen == expected || (self.may_be_gone && seen == Fate::Gone);
        // The response announces that the connection will be closed.
        self.may_be_gone |= matches!(seen, Fate::Refused(_));
        match is_right {
            true => Ok(()),
            false => Err(TestCaseError::fail(format!("expected {expected:?}, saw {seen:?}"))),
        }
    }
}
