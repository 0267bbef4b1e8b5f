//! Counters and histograms: atomics in memory, without locks and lookups by name.

use std::time::Duration;

use http::StatusCode;

use super::endpoint::{Endpoint, Status};
use super::handshake_outcome::HandshakeOutcome;

use crate::abort_reason::AbortReason;
use crate::counters::label::LabelMap;
use crate::counters::{Counter, Histogram};
use crate::identity::AuthError;
use crate::port::Port;

/// The metrics of one worker.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Metrics by port.
    pub ports: LabelMap<Port, ListenerMetrics>,
    /// Admin port requests without a listed client certificate, by reason.
    pub not_admins: LabelMap<AuthError, Counter>,
}

/// The metrics of one port.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Bytes of request bodies, and tunneled bytes from clients.
    pub received: Counter,
    /// Bytes of response bodies, and tunneled bytes to clients.
    pub sent: Counter,
    /// Requests by endpoint and status.
    pub requests: LabelMap<Endpoint, LabelMap<Status, Counter>>,
    /// Request durations, except of tunnels.
    pub durations: LabelMap<Endpoint, Histogram>,
    /// Aborted requests by reason.
    pub cuts: LabelMap<AbortReason, Counter>,
    /// TLS handshakes by outcome.
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
