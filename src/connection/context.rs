//! One client's connection, as everything that serves it knows it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ProtocolVersion;
use tokio::sync::Notify;

use super::timeouts::ConnectionActivity;
use crate::abort_reason::AbortReason;
use crate::admission::RejectReason;
use crate::admission::{ClientBucket, Reader};
use crate::client_stream::CloseMode;
use crate::identity::Peer;
use crate::port::Port;
use crate::worker::Worker;

/// Who is served, where, by whom.
#[derive(Debug)]
pub struct ConnectionContext {
    /// Who serves it.
    pub worker: Rc<Worker>,
    /// Where it came in.
    pub port: Port,
    /// Who it is.
    pub peer: Peer,
    /// What its TLS has settled on.
    pub tls: ProtocolVersion,
    /// Told of every request.
    pub begun: Notify,
    /// Why the gateway has ended the connection, if it has. To be set before the connection is dropped: what is unfinished
    /// then, says so in its record.
    pub cut: Cell<Option<AbortReason>>,
    /// To be told when nothing is unfinished.
    pub ending: CloseMode,
    /// By what requests are counted, on the public port.
    pub counted_by: Option<Arc<ClientBucket>>,
    /// By what the memory of its answers is counted, on the public port.
    pub reader: Option<Arc<Reader>>,
    /// Whether a download goes by the place of the connection.
    pub(crate) is_downloading: Cell<bool>,
    /// What the connection is at.
    pub(crate) activity: Rc<ConnectionActivity>,
}

impl ConnectionContext {
    /// Why what is unfinished now will never be finished.
    pub fn cut(&self) -> AbortReason {
        let ours = self.worker.is_cut().then_some(AbortReason::Drain);
        // Nobody else ends what has begun.
        self.cut.get().or(ours).unwrap_or(AbortReason::Client)
    }

    /// Aborts what is under way, because the client receives its response too slowly.
    pub fn abort_stalled(&self) {
        self.cut.set(Some(AbortReason::Limit));
        self.worker.limiter().count(RejectReason::Stalled);
        tracing::debug!(port = %self.port, client = %self.peer.address, "let go: it took its answer too slowly");
    }
}
