//! Downloads on one connection, and the additional permits that they need.

use std::rc::Rc;

use super::context::ConnectionContext;
use crate::admission::{ConnectionPermit, Rejection};

/// Permit of a download in progress.
#[derive(Debug)]
pub struct DownloadPermit {
    client: Rc<ConnectionContext>,
    /// `None` for the download that uses the connection's own permit.
    permit: Option<ConnectionPermit>,
}

impl DownloadPermit {
    /// Acquires a permit for a download. Each download has its own upstream connection, and the limits reserve one per client
    /// connection. Of the concurrent downloads on one HTTP/2 connection, each after the first must therefore acquire a permit
    /// like a new connection.
    ///
    /// # Errors
    /// Fails if no permit is available.
    pub fn begin(client: &Rc<ConnectionContext>) -> Result<Self, Rejection> {
        let permit = if client.is_downloading.replace(true) {
            let permit = client.worker.admit(client.listener, client.peer.address.ip());
            // A download is never idle. Another connection can only have evicted it before this line.
            let is_held = |permit: &ConnectionPermit| permit.stranger().is_none_or(|stranger| stranger.begin_answer());
            Some(permit.filter(is_held).ok_or(Rejection::TooManyDownloads)?)
        } else {
            None
        };
        let client = Rc::clone(client);
        Ok(Self { client, permit })
    }
}

impl Drop for DownloadPermit {
    fn drop(&mut self) {
        if self.permit.is_none() {
            self.client.is_downloading.set(false);
        }
    }
}
