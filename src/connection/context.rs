//! The context of one client connection, shared by everything that serves it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ProtocolVersion;
use tokio::sync::Notify;

use super::timeouts::ConnectionActivity;
use crate::admission::{ClientBucket, Reader};
use crate::identity::Peer;
use crate::net::{CloseMode, Port};
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
}

/// Who has ended an answer or a tunnel before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortReason {
    /// The client went, or did not send the whole of its request.
    Client,
    /// The time for a drain was over.
    Drain,
    /// The dates of its admin's certificate ended, or the clock was set to a time outside of them.
    Expired,
    /// Incus broke off.
    Incus,
    /// The client took more than `[limits]` allow.
    Limit,
    /// After a reload its admin was none any more.
    Revoked,
}

impl AbortReason {
    /// What records say.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Drain => "drain",
            Self::Expired => "expired",
            Self::Incus => "incus",
            Self::Limit => "limit",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
