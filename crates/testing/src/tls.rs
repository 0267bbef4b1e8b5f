//! A TLS client with full control: any chain with any key, one record at a time, and the way the stream ended.
//!
//! It is blocking, with a deadline on every read, and trusts every server. [`http1`] reads HTTP/1.1 responses from it,
//! [`frames`] sends single HTTP/2 frames, and [`http2`] runs hyper with the same TLS settings.

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

/// The default timeout of a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The way a stream ended, or the reason why nothing was received.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Cleanly, with TLS close_notify.
    CloseNotify,
    /// TCP was closed without TLS close_notify, which means truncation.
    Cut,
    /// A TCP reset.
    Reset,
    /// The server sent an alert, or something that is not TLS.
    Tls(Error),
    /// Nothing was received before the deadline.
    Silence,
    /// The connection could not be established.
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
