//! Why a request is not served.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

/// A request that is not served, whatever it asks for.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Rejection {
    /// It can be read in more than one way.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// `deny` lists the address, or `allow` does not.
    #[error("access from this address is denied")]
    Network,
    /// The connection already serves a download, and no other connection is allowed.
    #[error("too many downloads at once, try again later")]
    TooManyDownloads,
    /// The address has made too many requests; one more is possible after this time.
    #[error("too many requests from this address, try again later")]
    TooManyRequests(Duration),
    /// Filters and searches of the address have used too much CPU time; another one is possible after this time.
    #[error("filters and searches from this address take too much CPU time, try again later")]
    TooMuchCpu(Duration),
}

impl Rejection {
    /// Returns the status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Ambiguous(_) => StatusCode::BAD_REQUEST,
            Self::Network => StatusCode::FORBIDDEN,
            Self::TooManyDownloads | Self::TooManyRequests(_) | Self::TooMuchCpu(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Returns the value of `Retry-After`, which is in whole seconds (RFC 9110 §10.2.3). It is rounded up, so that the client
    /// does not retry too early.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::Ambiguous(_) | Self::Network => None,
            Self::TooManyDownloads => Some(1),
            Self::TooManyRequests(wait) | Self::TooMuchCpu(wait) => Some(wait.as_millis().div_ceil(1000).max(1) as u64),
        }
    }
}
