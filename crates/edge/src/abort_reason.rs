//! Why a response or a tunnel ended before its end.

use std::fmt;

use crate::counters::label::label;

/// Who has ended an answer or a tunnel before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortReason {
    /// The client went, or did not send the whole of its request.
    Client,
    /// The time for a drain was over.
    Drain,
    /// The dates of its admin's certificate ended, or the clock was set to a time outside of them.
    Expired,
    /// Incus broke off.
    Incus,
    /// The client took more than `[limits]` allow.
    Limit,
    /// After a reload its admin was none any more.
    Revoked,
}

impl AbortReason {
    /// What records say.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Drain => "drain",
            Self::Expired => "expired",
            Self::Incus => "incus",
            Self::Limit => "limit",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

label!(AbortReason {
    Client = "client",
    Drain = "drain",
    Expired = "expired",
    Incus = "incus",
    Limit = "limit",
    Revoked = "revoked",
});
