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
use crate::listener_id::ListenerId;
use crate::metrics::counts::ListenerMetrics;
use crate::peer::Peer;
use crate::worker::Worker;

/// Context of one client connection.
#[derive(Debug)]
pub struct ConnectionContext {
    /// The worker that serves the connection.
    pub(super) worker: Rc<Worker>,
    /// The listener that accepted the connection.
    pub listener: ListenerId,
    /// The client's address and certificate.
    pub peer: Peer,
    /// The negotiated TLS version.
    pub tls: ProtocolVersion,
    /// Bucket that counts the requests, on an open listener.
    pub counted_by: Option<Arc<ClientBucket>>,
    /// Notified of every request.
    pub(super) begun: Notify,
    /// Why the gateway has aborted the connection, if it has. Must be set before the connection is dropped, because requests
    /// in flight then write it to their records.
    pub(super) aborted: Cell<Option<AbortReason>>,
    /// Switched to a graceful close when nothing is in flight.
    pub(super) ending: CloseMode,
    /// Reader that counts the memory of the responses, on an open listener.
    pub(super) reader: Option<Arc<Reader>>,
    /// Whether a download uses the connection's own permit.
    pub(super) is_downloading: Cell<bool>,
    /// Requests in flight and received bytes.
    pub(super) activity: Rc<ConnectionActivity>,
}

impl ConnectionContext {
    /// Returns why the requests in flight end before they complete.
    pub fn abort_reason(&self) -> AbortReason {
        let ours = self.worker.shutdown().is_cutting().then_some(AbortReason::Drain);
        // Nothing else in the gateway aborts a request in flight.
        self.aborted.get().or(ours).unwrap_or(AbortReason::Client)
    }

    /// Aborts what is under way, because the client receives its response too slowly.
    pub(super) fn abort_stalled(&self) {
        self.aborted.set(Some(AbortReason::Limit));
        self.worker.limiter().count(RejectReason::Stalled);
        tracing::debug!(port = %self.listener, client = %self.peer.address, "aborted the connection: the client reads its response too slowly");
    }

    /// Counts a stranger's request. Returns whether the access log should contain it.
    pub fn has_log_line(&self) -> bool {
        self.worker.strangers().has_line(self.listener, self.peer.address.ip())
    }

    /// Returns the metrics of the listener.
    pub fn counts(&self) -> &ListenerMetrics {
        self.worker.counts().of(self.listener)
    }
}
