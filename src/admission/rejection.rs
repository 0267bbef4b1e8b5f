//! Why a request is not served now.

use std::time::Duration;

/// A request that a limit rejects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rejection {
    /// `deny` lists the address, or `allow` does not.
    Network,
    /// The address has made too many requests; one more is possible after this time.
    TooManyRequests(Duration),
    /// Filters and searches of the address have used too much CPU time; another one is possible after this time.
    TooMuchCpu(Duration),
}
