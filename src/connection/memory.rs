//! What an answer on the public port holds until its client has taken it, booked and lent.

use std::sync::Arc;

use crate::admission::Reader;
use crate::public::generation::Holds;
use crate::reply::{Reply, ReplyBody};

/// Has an answer's bytes, wherever they wait to be sent, count as its reader's. What comes from Incus is not counted: each
/// download has the place of a connection.
pub(super) fn try_acquire(mut reply: Reply, reader: &Arc<Reader>) -> Reply {
    let holds = reply.extensions_mut().remove::<Holds>();
    let lease = holds.as_ref().map(|holds| holds.generation.lend(reader));
    reply.map(|body| match body {
        ReplyBody::Whole(Some(bytes)) => {
            // Those of a snapshot are everybody's.
            let own = holds.map_or(bytes.len(), |holds| holds.own);
            ReplyBody::Whole(Some(reader.try_acquire(own).keep_with(bytes, lease)))
        }
        ReplyBody::Parts(parts) => {
            let bounded = (reader.try_acquire(holds.map_or(0, |holds| holds.own)), lease);
            let reader = Arc::clone(reader);
            ReplyBody::Parts(Box::new(parts.map(move |part| {
                let _kept = &bounded;
                reader.try_acquire(part.len()).keep_with(part, ())
            })))
        }
        body => body,
    })
}
