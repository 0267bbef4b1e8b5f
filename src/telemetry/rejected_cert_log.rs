//! What the log says of requests that are rejected on the admin port. Anybody can cause as many as they like.

use std::net::IpAddr;

use super::repeats::Repeats;
use super::targets;
use crate::identity::{AuthError, Peer, PeerCertificate};
use crate::port::Port;

/// Counts them for all workers, and logs the first of each minute and network.
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
                target: targets::AUDIT,
                client = %peer.address,
                subject = certificate.subject(),
                fingerprint = %certificate.fingerprint(),
                "rejected: {why}"
            );
        }
    }

    /// Counts a rejected request. Returns `true` if the access log should contain it.
    pub(super) fn has_line(&self, client: IpAddr) -> bool {
        self.requests.is_first(client)
    }

    /// Logs the counts of the periods that have ended.
    pub fn flush(&self) {
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
        tracing::info!(target: targets::AUDIT, times, %network, "rejected more often than logged");
    }
    for (network, times) in requests {
        tracing::info!(target: targets::ACCESS, port = %Port::Admin, times, %network, "rejected more often than logged");
    }
}
