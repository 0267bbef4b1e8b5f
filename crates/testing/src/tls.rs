//! A TLS client that hides nothing: any chain with any key, one record at a time, and how the stream ended.
//!
//! It blocks, with a deadline on every read, and trusts every server. [`http1`] reads answers from it, [`frames`] makes
//! HTTP/2 of it frame by frame, [`http2`] runs hyper's over the same settings.

mod client;
pub mod frames;
pub mod http1;
pub mod http2;
mod raw;
pub mod trust;

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use rustls::Error;

pub use self::client::TlsClient;
pub use self::raw::Raw;

/// For everything that has no time of its own in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a stream ended, or why nothing came.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// In order: with TLS's own word for the end.
    CloseNotify,
    /// TCP ended in order, but TLS did not: to be taken for a cut.
    Cut,
    /// A TCP reset.
    Reset,
    /// The server refused by an alert, or spoke something that is no TLS.
    Tls(Error),
    /// Nothing more came before the deadline.
    Silence,
    /// No connection came about.
    Unreachable(ErrorKind),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for End {}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Self::Reset,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silence,
            kind => Self::Unreachable(kind),
        }
    }
}
