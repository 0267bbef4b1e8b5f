//! Plain figures in memory. Nobody waits for anybody, and nothing is looked up by text.

use std::time::Duration;

use http::StatusCode;

use super::endpoint::{Endpoint, Status};
use super::handshake_outcome::HandshakeOutcome;

use crate::abort_reason::AbortReason;
use crate::counters::label::LabelMap;
use crate::counters::{Counter, Histogram};
use crate::identity::AuthError;
use crate::port::Port;

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// By port.
    pub ports: LabelMap<Port, ListenerMetrics>,
    /// Requests on the admin port of who is no admin.
    pub not_admins: LabelMap<AuthError, Counter>,
}

/// On one port.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Bytes of requests' bodies, and through tunnels from clients.
    pub received: Counter,
    /// Bytes of answers' bodies, and through tunnels to clients.
    pub sent: Counter,
    /// What was asked, and what came of it.
    pub requests: LabelMap<Endpoint, LabelMap<Status, Counter>>,
    /// How long that took, but for tunnels.
    pub durations: LabelMap<Endpoint, Histogram>,
    /// What was cut, by whom.
    pub cuts: LabelMap<AbortReason, Counter>,
    /// How handshakes ended.
    pub handshakes: LabelMap<HandshakeOutcome, Counter>,
}

impl ListenerMetrics {
    /// Counts a request that is over: what was asked for, the status of the response if there was one, how long it took, and
    /// why it was aborted.
    pub fn count(
        &self,
        endpoint: Endpoint,
        status: Option<StatusCode>,
        duration: Duration,
        aborted: Option<AbortReason>,
    ) {
        self.requests.of(endpoint).of(Status::of(status)).add(1);
        // A tunnel is open for as long as its user likes.
        if status != Some(StatusCode::SWITCHING_PROTOCOLS) {
            self.durations.of(endpoint).observe(duration);
        }
        if let Some(reason) = aborted {
            self.cuts.of(reason).add(1);
        }
    }
}
