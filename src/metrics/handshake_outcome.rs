//! How a client's handshake ended.

use std::io;

use rustls::{AlertDescription, Error};

use crate::counters::label::label;

/// One of a few.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeOutcome {
    /// It was done.
    Done,
    /// The client does not take our certificate.
    CertificateRefused,
    /// The client went.
    ClientGone,
    /// Others took its place on the admin port.
    Evicted,
    /// We were ending.
    Drain,
    /// Nothing that both speak: a version, a cipher suite.
    Incompatible,
    /// What came was no TLS.
    NotTls,
    /// Something else.
    Other,
    /// The client spoke plain HTTP, and was told so.
    PlainHttp,
    /// A proxy did not say in time, or not properly, whose connection it brings.
    ProxyHeader,
    /// It took too long.
    Timeout,
}

label!(HandshakeOutcome {
    Done = "done",
    CertificateRefused = "certificate_refused",
    ClientGone = "client_gone",
    Evicted = "displaced",
    Drain = "drain",
    Incompatible = "incompatible",
    NotTls = "not_tls",
    Other = "other",
    PlainHttp = "plain_http",
    ProxyHeader = "proxy_header",
    Timeout = "timeout",
});

impl HandshakeOutcome {
    /// Why it failed.
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
