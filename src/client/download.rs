//! The downloads over one connection, and what they take besides it.

use std::rc::Rc;

use super::Client;
use crate::limits::Place;
use crate::reply::Refusal;

/// A download under way.
#[derive(Debug)]
pub struct Download {
    client: Rc<Client>,
    /// Held for as long as it lasts.
    _place: Option<Place>,
}

impl Download {
    /// Each has a connection to Incus for itself. The limits have one for every client's connection; of those that come
    /// over one of HTTP/2 at the same time, every further one must get the place of a connection.
    pub fn begin(client: &Rc<Client>) -> Result<Self, Refusal> {
        let place = match client.downloads.get() {
            0 => None,
            _ => Some(
                client
                    .worker
                    .admit(client.port, client.peer.address.ip())
                    .ok_or(Refusal::TooManyDownloads)?,
            ),
        };
        client.downloads.set(client.downloads.get() + 1);
        Ok(Self {
            client: Rc::clone(client),
            _place: place,
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.client.downloads.set(self.client.downloads.get() - 1);
    }
}
