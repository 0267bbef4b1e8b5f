//! The log lines that strangers cause. Anybody can cause as many as they like, so their number is limited.

use std::fmt::Display;
use std::net::IpAddr;

use super::repeats::Repeats;
use super::targets;
use crate::listener_id::{ListenerId, Policy};
use crate::peer::{Peer, PeerCertificate};

/// Number of networks with lines of their own per minute, for each kind of line of an authenticated listener. With two lines of at most
/// 1.5 KB for each, the log grows by less than a megabyte per minute.
const REJECTED_NETWORKS: usize = 250;
/// Number of requests per minute that a network may log on an open listener. `incus launch` sends about ten. With at most
/// 700 bytes for each, four networks at their request limit write less than 200 KB per minute.
const OPEN_LINES: u64 = 60;
/// Number of networks with lines of their own per minute on an open listener.
const OPEN_NETWORKS: usize = 4096;

/// Counts the requests of strangers for all workers, and decides which of them have a line of their own.
#[derive(Debug)]
pub struct StrangerLog {
    certificates: Repeats,
    /// By listener.
    requests: Vec<(ListenerId, Repeats)>,
}

impl StrangerLog {
    /// Creates the log of these listeners.
    pub fn new(listeners: &[ListenerId]) -> Self {
        let requests = listeners.iter().map(|listener| match listener.policy() {
            Policy::Authenticated => (*listener, Repeats::new(1, REJECTED_NETWORKS)),
            Policy::Open => (*listener, Repeats::new(OPEN_LINES, OPEN_NETWORKS)),
        });
        Self {
            certificates: Repeats::new(1, REJECTED_NETWORKS),
            requests: requests.collect(),
        }
    }

    /// Logs a rejected certificate, or counts it if one from the same network was logged less than a minute ago.
    pub fn record_rejected(&self, peer: &Peer, certificate: &PeerCertificate, why: &impl Display) {
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
    pub(crate) fn has_line(&self, listener: ListenerId, client: IpAddr) -> bool {
        let (_, requests) = &self.requests[listener.index()];
        // On an open listener, loopback may be a proxy with many clients, and is not limited either.
        (listener.policy() == Policy::Open && client.is_loopback()) || requests.has_line(client)
    }

    /// Logs the counts of the periods that have ended.
    pub fn flush(&self) {
        self.log_counts(Repeats::take_over);
    }

    fn log_counts(&self, take: impl Fn(&Repeats) -> Vec<(String, u64)>) {
        for (network, times) in take(&self.certificates) {
            tracing::info!(target: targets::AUDIT, times, %network, "rejected more often than logged");
        }
        for (port, requests) in &self.requests {
            for (network, times) in take(requests) {
                match port.policy() {
                    Policy::Authenticated => {
                        tracing::info!(target: targets::ACCESS, %port, times, %network, "rejected more often than logged");
                    }
                    Policy::Open => {
                        tracing::info!(target: targets::ACCESS, %port, times, %network, "more requests without lines of their own");
                    }
                }
            }
        }
    }
}

impl Drop for StrangerLog {
    fn drop(&mut self) {
        self.log_counts(Repeats::take_all);
    }
}
