//! The remote end of a connection, as far as TLS has proven who it is.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use crate::tls::certificate::{self, Fingerprint, Validity};

/// Maximum number of characters of a subject in the log: strangers control them.
const MAX_SUBJECT: usize = 200;

/// The remote end of a connection, as far as it is authenticated.
#[derive(Debug)]
pub struct Peer {
    /// The client's own address, even if a proxy is in between.
    pub address: SocketAddr,
    /// The certificate that it presented. It has not been authorized.
    pub certificate: Option<PeerCertificate>,
}

/// A client certificate whose private key the client has proven to hold.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    der: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl PeerCertificate {
    /// Creates it from the leaf certificate whose key TLS has verified the handshake's signature with. The rest of the chain
    /// is ignored.
    pub fn new(leaf: &CertificateDer<'_>) -> Self {
        Self {
            fingerprint: Fingerprint::of(leaf),
            der: leaf.clone().into_owned(),
        }
    }

    /// Returns the certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the SHA-256 fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the time until its validity begins or ends, whichever is next after `now`; `None` if neither is in the future.
    pub fn next_change(&self, now: SystemTime) -> Option<Duration> {
        Validity::of(&self.der).ok()?.next_change(now)
    }

    /// Returns the subject's distinguished name, truncated. Anybody can choose it.
    pub fn subject(&self) -> String {
        let subject = certificate::subject(&self.der).unwrap_or_default();
        subject.chars().take(MAX_SUBJECT).collect()
    }
}
