//! The audit log: which administrator changed what from which address, and which certificates were rejected.
//!
//! A request is logged when its response begins, not when it ends: a shell may stay open for days.

use std::net::IpAddr;

use http::{Method, StatusCode};

use super::access::{self, method};
use super::redact::redact;
use super::repeats::Repeats;
use super::request_record::RequestRecord;
use crate::identity::{AuthError, Peer, PeerCertificate};
use crate::net::Port;

/// Target of the audit log. No level disables it.
pub const TARGET: &str = "incus_gate::audit";

/// Logs an administrator's request that may change something or opens a tunnel, when its result is known. Only the
/// read-only methods GET and HEAD are left out.
pub(super) fn record(record: &RequestRecord) {
    let Some(admin) = record.admin() else { return };
    let is_tunnel = record.status() == Some(StatusCode::SWITCHING_PROTOCOLS);
    if !is_tunnel && matches!(*record.method(), Method::GET | Method::HEAD) {
        return;
    }
    tracing::info!(
        target: TARGET,
        admin = %admin,
        client = %record.client().peer.address,
        method = %method(record),
        path = &*redact(record.uri()),
        status = record.status().map(|status| status.as_u16()),
        operation = record.operation().map(display),
        "{}", if is_tunnel { "tunnel" } else { "request" }
    );
}

/// Requests rejected on the admin port, by all workers. Clients can cause any number of them.
#[derive(Debug, Default)]
pub struct RejectedCertLog {
    certificates: Repeats,
    requests: Repeats,
}

impl RejectedCertLog {
    /// Logs a rejected certificate, or counts it if one from the same client was logged less than a minute ago.
    pub fn record(&self, peer: &Peer, certificate: &PeerCertificate, why: &AuthError) {
        if self.certificates.is_first(peer.address.ip()) {
            tracing::info!(
                target: TARGET,
                client = %peer.address,
                subject = certificate.subject(),
                fingerprint = %certificate.fingerprint(),
                "refused: {why}"
            );
        }
    }

    /// Counts a rejected request. Returns `true` if the access log should contain it.
    pub(super) fn has_line(&self, client: IpAddr) -> bool {
        self.requests.is_first(client)
    }

    /// Logs the counts of the periods that have ended.
    pub fn tell(&self) {
        log_counts(self.certificates.take_over(), self.requests.take_over());
    }
}

impl Drop for RejectedCertLog {
    fn drop(&mut self) {
        log_counts(self.certificates.take_all(), self.requests.take_all());
    }
}

fn log_counts(certificates: Vec<(String, u64)>, requests: Vec<(String, u64)>) {
    for (network, times) in certificates {
        tracing::info!(target: TARGET, times, %network, "refused more often than is told");
    }
    for (network, times) in requests {
        tracing::info!(target: access::TARGET, port = %Port::Admin, times, %network, "refused more often than is told");
    }
}
