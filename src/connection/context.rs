//! One client's connection, as everything that serves it knows it.

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
