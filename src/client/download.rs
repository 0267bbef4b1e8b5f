//! The downloads over one connection, and what they take besides it.

use std::rc::Rc;

use super::Client;
use crate::limits::Place;
use crate::reply::Refusal;

/// A download under way.
#[derive(Debug)]
pub struct Download {
    client: Rc<Client>,
    /// `None` for the one that goes by the connection's own.
    place: Option<Place>,
}

impl Download {
    /// Each has a connection to Incus for itself. The limits have one for every client's connection; of those that come
    /// over one of HTTP/2 at the same time, every further one must get the place of a connection.
    pub fn begin(client: &Rc<Client>) -> Result<Self, Refusal> {
        let place = if client.is_downloading.replace(true) {
            let place = client.worker.admit(client.port, client.peer.address.ip());
            let place = place.ok_or(Refusal::TooManyDownloads)?;
            // It is never idle. Nobody can have displaced it unless it has been so.
            let is_held = place.stranger().is_none_or(|stranger| stranger.begin_answer());
            Some(is_held.then_some(place).ok_or(Refusal::TooManyDownloads)?)
        } else {
            None
        };
        let client = Rc::clone(client);
        Ok(Self { client, place })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.place.is_none() {
            self.client.is_downloading.set(false);
        }
    }
}
