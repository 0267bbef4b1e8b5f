//! What a connection has become after 101.

use bytes::Bytes;

/// What a connection has become after 101, on either side of us.
#[derive(Debug)]
pub struct UpgradedIo<S> {
    /// What was read of it already.
    pub read_ahead: Bytes,
    /// The rest.
    pub stream: S,
}
