//! Why a response or a tunnel was aborted.

use std::fmt;

use crate::counters::label::label;

/// Why a response or a tunnel was aborted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortReason {
    /// The client disconnected, or did not send its complete request.
    Client,
    /// The drain timeout was over.
    Drain,
    /// The administrator's certificate expired, or the clock was set to a time outside its validity period.
    Expired,
    /// Incus aborted the response.
    Incus,
    /// The client exceeded a limit of `[limits]`.
    Limit,
    /// The administrator was no longer authorized after a reload.
    Revoked,
}

impl AbortReason {
    /// Returns the value in logs and metrics.
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
