//! The log lines that strangers cause. Anybody can cause as many as they like, so their number is limited.

use std::net::IpAddr;

use super::repeats::Repeats;
use super::targets;
use crate::identity::{AuthError, Peer, PeerCertificate};
use crate::port::Port;

/// Number of networks with lines of their own per minute, for each kind of line of the admin port. With two lines of at most
/// 1.5 KB for each, the log grows by less than a megabyte per minute.
const REJECTED_NETWORKS: usize = 250;
/// Number of requests per minute that a network may log on the public port. `incus launch` sends about ten. With at most
/// 700 bytes for each, four networks at their request limit write less than 200 KB per minute.
const PUBLIC_LINES: u64 = 60;
/// Number of networks with lines of their own per minute on the public port.
const PUBLIC_NETWORKS: usize = 4096;

/// Counts the requests of strangers for all workers, and decides which of them have a line of their own.
#[derive(Debug)]
pub struct StrangerLog {
    certificates: Repeats,
    rejected: Repeats,
    public: Repeats,
}

impl Default for StrangerLog {
    fn default() -> Self {
        Self {
            certificates: Repeats::new(1, REJECTED_NETWORKS),
            rejected: Repeats::new(1, REJECTED_NETWORKS),
            public: Repeats::new(PUBLIC_LINES, PUBLIC_NETWORKS),
        }
    }
}

impl StrangerLog {
    /// Logs a rejected certificate, or counts it if one from the same network was logged less than a minute ago.
    pub fn record_rejected(&self, peer: &Peer, certificate: &PeerCertificate, why: &AuthError) {
        if self.certificates.has_line(peer.address.ip()) {
            tracing::info!(
                target: targets::AUDIT,
                client = %peer.address,
                subject = certificate.subject(),
                fingerprint = %certificate.fingerprint(),
                "rejected: {why}"
            );
        }
    }

    /// Counts a stranger's request. Returns `true` if the access log should contain it.
    pub(super) fn has_line(&self, port: Port, client: IpAddr) -> bool {
        match port {
            Port::Admin => self.rejected.has_line(client),
            // Loopback may be a proxy with many clients, and is not limited either.
            Port::Public => client.is_loopback() || self.public.has_line(client),
        }
    }

    /// Logs the counts of the periods that have ended.
    pub fn flush(&self) {
        self.log_counts(Repeats::take_over);
    }

    fn log_counts(&self, take: impl Fn(&Repeats) -> Vec<(String, u64)>) {
        for (network, times) in take(&self.certificates) {
            tracing::info!(target: targets::AUDIT, times, %network, "rejected more often than logged");
        }
        for (network, times) in take(&self.rejected) {
            tracing::info!(target: targets::ACCESS, port = %Port::Admin, times, %network, "rejected more often than logged");
        }
        for (network, times) in take(&self.public) {
            tracing::info!(target: targets::ACCESS, port = %Port::Public, times, %network, "more requests without lines of their own");
        }
    }
}

impl Drop for StrangerLog {
    fn drop(&mut self) {
        self.log_counts(Repeats::take_all);
    }
}
