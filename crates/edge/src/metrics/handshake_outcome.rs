//! Metrics label for the outcome of a TLS handshake.

use std::io;

use rustls::{AlertDescription, Error};

use crate::counters::label::label;

/// Outcome of a TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeOutcome {
    /// Handshake completed.
    Done,
    /// The client rejected the gateway's certificate.
    CertificateRefused,
    /// The client closed the connection.
    ClientGone,
    /// The connection was evicted on the admin port to make room for others.
    Evicted,
    /// The gateway was shutting down.
    Drain,
    /// No common TLS version or cipher suite.
    Incompatible,
    /// The client did not send TLS.
    NotTls,
    /// Any other error.
    Other,
    /// The client sent plain HTTP and got an error response.
    PlainHttp,
    /// A proxy sent no valid PROXY protocol header in time.
    ProxyHeader,
    /// The handshake timed out.
    Timeout,
}

label!(HandshakeOutcome {
    Done = "done",
    CertificateRefused = "certificate_rejected",
    ClientGone = "client_disconnected",
    Evicted = "evicted",
    Drain = "drain",
    Incompatible = "incompatible",
    NotTls = "not_tls",
    Other = "other",
    PlainHttp = "plain_http",
    ProxyHeader = "proxy_header",
    Timeout = "timeout",
});

impl HandshakeOutcome {
    /// Classifies the error of a failed handshake.
    pub fn failed(error: &io::Error) -> Self {
        match error.get_ref().and_then(|source| source.downcast_ref()) {
            None => Self::ClientGone,
            Some(Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate,
            )) => Self::CertificateRefused,
            Some(Error::AlertReceived(_) | Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => Self::NotTls,
            Some(_) => Self::Other,
        }
    }
}
