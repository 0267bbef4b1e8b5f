//! Metrics of Incus. All workers share them: a request to Incus takes a thousand times longer than an update.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;
use crate::counters::label::{LabelMap, label};
use crate::counters::{Counter, Histogram};

/// The record of one request and its response. Dropping it logs and counts the request.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    /// Time until the header of a response arrived.
    pub answers: Histogram,
    /// Connections that were opened.
    pub opened: Counter,
    /// Requests on a reused connection.
    pub reused: Counter,
    /// Errors by kind.
    pub errors: LabelMap<ErrorKind, Counter>,
    idle: AtomicU64,
}

impl UpstreamMetrics {
    /// Counts an error, unless the client caused it.
    pub fn failed(&self, error: &Error) {
        if let Some(kind) = ErrorKind::of(error) {
            self.errors.of(kind).add(1);
        }
    }

    /// Returns the number of idle connections.
    pub fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }
}

/// Counts an idle connection until it is dropped.
#[derive(Debug)]
pub(super) struct IdleGuard(Arc<UpstreamMetrics>);

impl IdleGuard {
    pub(super) fn new(counts: &Arc<UpstreamMetrics>) -> Self {
        counts.idle.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for IdleGuard {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Kind of an upstream error.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "see `Error`")]
pub enum ErrorKind {
    BrokenOff,
    Connect,
    NotPinned,
    NotUnderstood,
    NoProxy,
    Status,
    Timeout,
    Tls,
}

label!(ErrorKind {
    BrokenOff = "aborted",
    Connect = "connect",
    NotPinned = "not_pinned",
    NotUnderstood = "invalid_response",
    NoProxy = "proxy_protocol",
    Status = "status",
    Timeout = "timeout",
    Tls = "tls",
});

impl ErrorKind {
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Client(_) => None,
            Error::BrokenOff(_) => Some(Self::BrokenOff),
            Error::Connect { .. } => Some(Self::Connect),
            Error::Export(_) | Error::Framing | Error::Http(_) | Error::TooLarge(_) | Error::Unusable => {
                Some(Self::NotUnderstood)
            }
            Error::NoProxy { .. } => Some(Self::NoProxy),
            Error::NotPinned { .. } => Some(Self::NotPinned),
            Error::Status(..) => Some(Self::Status),
            Error::Timeout(_) => Some(Self::Timeout),
            Error::NoTls { .. } | Error::Tls { .. } => Some(Self::Tls),
        }
    }
}
