//! The downloads over one connection, and what they take besides it.

use std::rc::Rc;

use super::context::ConnectionContext;
use crate::admission::ConnectionPermit;
use crate::reply::HttpError;

/// A download under way.
#[derive(Debug)]
pub struct DownloadPermit {
    client: Rc<ConnectionContext>,
    /// `None` for the one that goes by the connection's own.
    permit: Option<ConnectionPermit>,
}

impl DownloadPermit {
    /// Each has a connection to Incus for itself. The limits have one for every client's connection; of those that come
    /// over one of HTTP/2 at the same time, every further one must get the place of a connection.
    pub fn begin(client: &Rc<ConnectionContext>) -> Result<Self, HttpError> {
        let permit = if client.is_downloading.replace(true) {
            let permit = client.worker.admit(client.port, client.peer.address.ip());
            let permit = permit.ok_or(HttpError::TooManyDownloads)?;
            // It is never idle. Nobody can have displaced it unless it has been so.
            let is_held = permit.stranger().is_none_or(|stranger| stranger.begin_answer());
            Some(is_held.then_some(permit).ok_or(HttpError::TooManyDownloads)?)
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
