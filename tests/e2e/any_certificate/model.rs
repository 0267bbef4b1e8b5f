//! The model: who is an admin, in as few lines as possible.

use proptest::prelude::TestCaseError;

use super::certificates::{Dates, TestCertificate};

/// The outcome of a request or of the whole connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// There is no connection: the handshake failed, or it was closed.
    Gone,
    /// Rejected; the response contains this text.
    Refused(&'static str),
    /// Accepted as an admin's.
    Served,
}

/// The names and certificates of the current configuration.
pub(crate) type Listing = Vec<(String, TestCertificate)>;

/// Returns the expected outcome of a request under the current configuration.
pub(crate) fn expected_fate(listing: &Listing, shown: Option<&TestCertificate>) -> Outcome {
    let Some(shown) = shown else {
        return Outcome::Refused("presented none");
    };
    match (name_in(listing, shown), shown.dates()) {
        (None, _) => Outcome::Refused("does not list this client's certificate"),
        (Some(_), Dates::Expired) => Outcome::Refused("has expired"),
        (Some(_), Dates::NotYetValid) => Outcome::Refused("is not valid yet"),
        (Some(_), Dates::Valid) => Outcome::Served,
    }
}

/// Returns the name under which this exact certificate is listed.
pub(crate) fn name_in<'a>(listing: &'a Listing, shown: &TestCertificate) -> Option<&'a str> {
    let same = listing.iter().find(|(_, listed)| listed.der == shown.der);
    same.map(|(name, _)| name.as_str())
}

/// The expected state of an open connection.
#[derive(Clone)]
pub(crate) struct ConnectionModel {
    pub(crate) shown: Option<TestCertificate>,
    was_listed: bool,
    /// Whether it may be closed already, or be closed at any moment.
    pub(crate) may_be_gone: bool,
}

impl ConnectionModel {
    pub(crate) fn new(shown: Option<TestCertificate>, may_be_gone: bool) -> Self {
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
    pub(crate) fn check(&mut self, expected: Outcome, seen: Outcome) -> Result<(), TestCaseError> {
        let is_right = seen == expected || (self.may_be_gone && seen == Outcome::Gone);
        // The response announces that the connection will be closed.
        self.may_be_gone |= matches!(seen, Outcome::Refused(_));
        match is_right {
            true => Ok(()),
            false => Err(TestCaseError::fail(format!("expected {expected:?}, saw {seen:?}"))),
        }
    }
}
