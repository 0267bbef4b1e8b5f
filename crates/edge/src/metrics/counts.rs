//! Counters and histograms: atomics in memory, without locks and lookups by name.

use std::time::Duration;

use http::StatusCode;

use super::handshake_outcome::HandshakeOutcome;
use super::status_label::Status;

use crate::abort_reason::AbortReason;
use crate::counters::label::{Label, LabelMap};
use crate::counters::{Counter, Histogram};
use crate::listener_id::ListenerId;

/// The metrics of one worker.
#[derive(Debug)]
pub struct WorkerMetrics {
    listeners: Box<[ListenerMetrics]>,
}

impl WorkerMetrics {
    /// Creates the metrics of this many listeners, with `E` as the endpoints of their services.
    pub fn new<E: Label>(listeners: usize) -> Self {
        Self {
            listeners: (0..listeners).map(|_| ListenerMetrics::new::<E>()).collect(),
        }
    }

    /// Returns the metrics of one listener.
    pub fn of(&self, listener: ListenerId) -> &ListenerMetrics {
        &self.listeners[listener.index()]
    }
}

/// The part of a service's interface that a request was for, as its index in the label that the services define.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndpointId(usize);

impl EndpointId {
    /// The first one: the endpoint of requests that no service has accepted.
    pub const REFUSED: Self = Self(0);

    /// Returns the ID of a label's value.
    pub fn of(endpoint: impl Label) -> Self {
        Self(endpoint.place())
    }
}

/// The metrics of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Bytes of request bodies, and tunneled bytes from clients.
    pub received: Counter,
    /// Bytes of response bodies, and tunneled bytes to clients.
    pub sent: Counter,
    /// Aborted requests by reason.
    pub cuts: LabelMap<AbortReason, Counter>,
    /// TLS handshakes by outcome.
    pub handshakes: LabelMap<HandshakeOutcome, Counter>,
    /// By endpoint.
    requests: Box<[RequestMetrics]>,
}

/// The metrics of one endpoint.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    /// Requests by status.
    pub statuses: LabelMap<Status, Counter>,
    /// Request durations, except of tunnels.
    pub durations: Histogram,
}

impl ListenerMetrics {
    fn new<E: Label>() -> Self {
        Self {
            received: Counter::default(),
            sent: Counter::default(),
            cuts: LabelMap::default(),
            handshakes: LabelMap::default(),
            requests: E::ALL.iter().map(|_| RequestMetrics::default()).collect(),
        }
    }

    /// Returns the metrics of one endpoint.
    pub fn requests(&self, endpoint: EndpointId) -> &RequestMetrics {
        &self.requests[endpoint.0]
    }

    /// Counts a request that is over: what was asked for, the status of the response if there was one, how long it took, and
    /// why it was aborted.
    pub fn count(
        &self,
        endpoint: EndpointId,
        status: Option<StatusCode>,
        duration: Duration,
        aborted: Option<AbortReason>,
    ) {
        let requests = self.requests(endpoint);
        requests.statuses.of(Status::of(status)).add(1);
        // A tunnel is open for as long as its user likes.
        if status != Some(StatusCode::SWITCHING_PROTOCOLS) {
            requests.durations.observe(duration);
        }
        if let Some(reason) = aborted {
            self.cuts.of(reason).add(1);
        }
    }
}
