//! The audit log: which admin has changed what, from where, and who was refused.
//!
//! A request is told of when its answer begins, not when it ends: a shell may be open for days.

use std::net::IpAddr;

use http::{Method, StatusCode};

use super::access::{self, method};
use super::redact::redact;
use super::repeats::Repeats;
use super::request_record::RequestRecord;
use crate::identity::{AuthError, Peer, PeerCertificate};
use crate::net::Port;

/// Its lines are known by this name, and no level turns them off.
pub const TARGET: &str = "incus_gate::audit";

/// Tells of an admin's request that may change something or opens a tunnel, once it is known what comes of it. Only methods
/// that are known to read are left out.
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

/// Requests that were refused on the admin port, on all workers: anybody can cause as many as they like.
#[derive(Debug, Default)]
pub struct RejectedCertLog {
    certificates: Repeats,
    requests: Repeats,
}

impl RejectedCertLog {
    /// Logs a certificate that was refused, or counts it if this client's last one was logged less than a minute ago.
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

    /// Counts a refused request; `true` if the access log should have a line of it.
    pub(super) fn has_line(&self, client: IpAddr) -> bool {
        self.requests.is_first(client)
    }

    /// Logs the counts of the minutes that are over.
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
