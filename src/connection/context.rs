//! The context of one client connection, shared by everything that serves it.

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

/// Context of one client connection.
#[derive(Debug)]
pub struct ConnectionContext {
    /// The worker that serves the connection.
    pub worker: Rc<Worker>,
    /// The port that accepted the connection.
    pub port: Port,
    /// The client's address and certificate.
    pub peer: Peer,
    /// The negotiated TLS version.
    pub tls: ProtocolVersion,
    /// Notified of every request.
    pub begun: Notify,
    /// Why the gateway has aborted the connection, if it has. Must be set before the connection is dropped, because requests
    /// in flight then write it to their records.
    pub cut: Cell<Option<AbortReason>>,
    /// Switched to a graceful close when nothing is in flight.
    pub ending: CloseMode,
    /// Bucket that counts the requests, on the public port.
    pub counted_by: Option<Arc<ClientBucket>>,
    /// Reader that counts the memory of the responses, on the public port.
    pub reader: Option<Arc<Reader>>,
    /// Whether a download uses the connection's own permit.
    pub(crate) is_downloading: Cell<bool>,
    /// Requests in flight and received bytes.
    pub(crate) activity: Rc<ConnectionActivity>,
}

impl ConnectionContext {
    /// Returns why the requests in flight end before they complete.
    pub fn cut(&self) -> AbortReason {
        let ours = self.worker.is_cut().then_some(AbortReason::Drain);
        // Nothing else in the gateway aborts a request in flight.
        self.cut.get().or(ours).unwrap_or(AbortReason::Client)
    }

    /// Aborts what is under way, because the client receives its response too slowly.
    pub fn abort_stalled(&self) {
        self.cut.set(Some(AbortReason::Limit));
        self.worker.limiter().count(RejectReason::Stalled);
        tracing::debug!(port = %self.port, client = %self.peer.address, "aborted the connection: the client reads its response too slowly");
    }
}
