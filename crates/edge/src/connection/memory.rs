//! Memory accounting of responses on open listeners until their clients have read them.

use std::sync::Arc;

use crate::admission::Reader;
use crate::generation::Holds;
use crate::response::{Reply, ReplyBody};

/// Attaches a lease to a response's bytes, which counts them for the reader wherever they are buffered. Responses from upstream
/// are not counted, because each download holds a connection permit.
pub(super) fn try_acquire(mut reply: Reply, reader: &Arc<Reader>) -> Reply {
    let holds = reply.extensions_mut().remove::<Holds>();
    let lease = holds.as_ref().map(|holds| holds.generation.lend(reader));
    reply.map(|body| match body {
        ReplyBody::Whole(Some(bytes)) => {
            // The bytes of a snapshot are shared by all clients.
            let own = holds.map_or(bytes.len(), |holds| holds.own);
            ReplyBody::Whole(Some(reader.try_acquire(own).keep_with(bytes, lease)))
        }
        ReplyBody::Parts(parts) => {
            let leases = (reader.try_acquire(holds.map_or(0, |holds| holds.own)), lease);
            let reader = Arc::clone(reader);
            ReplyBody::Parts(Box::new(parts.map(move |part| {
                let _kept = &leases;
                reader.try_acquire(part.len()).keep_with(part, ())
            })))
        }
        body => body,
    })
}
