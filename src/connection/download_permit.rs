//! The downloads over one connection, and what they take besides it.

use std::rc::Rc;

use super::context::ConnectionContext;
use crate::admission::ConnectionPermit;

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
    pub fn begin(client: &Rc<ConnectionContext>) -> Option<Self> {
        let permit = if client.is_downloading.replace(true) {
            let permit = client.worker.admit(client.port, client.peer.address.ip());
            let permit = permit?;
            // It is never idle. Nobody can have displaced it unless it has been so.
            let is_held = permit.stranger().is_none_or(|stranger| stranger.begin_answer());
            Some(is_held.then_some(permit)?)
        } else {
            None
        };
        let client = Rc::clone(client);
        Some(Self { client, permit })
    }
}

impl Drop for DownloadPermit {
    fn drop(&mut self) {
        if self.permit.is_none() {
            self.client.is_downloading.set(false);
        }
    }
}
