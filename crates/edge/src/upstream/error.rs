//! Errors of requests to Incus, with messages for the log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

/// Why Incus sent no response, or an incomplete one.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("Incus aborted a response: {0}")]
    BrokenOff(#[source] hyper::Error),
    #[error("the client did not send its complete request: {0}")]
    Client(#[source] hyper::Error),
    #[error(
        "cannot connect to Incus at {address}: {source}; check that Incus is running, and that upstream.url matches `incus config get core.https_address`"
    )]
    Connect { address: String, source: io::Error },
    #[error("Incus's export is not the image: {0}")]
    Export(String),
    #[error(
        "invalid response from Incus: it has both Content-Length and Transfer-Encoding, or a transfer coding other than chunked"
    )]
    Framing,
    #[error("invalid response from Incus: {0}")]
    Http(#[source] hyper::Error),
    #[error("Incus responded to {0} with {1}")]
    Status(String, StatusCode),
    #[error("Incus did not respond within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error(
        "the server at {address} did not present the pinned certificate; if Incus has a new certificate, copy it to upstream.server_certificate"
    )]
    NotPinned { address: String },
    #[error(
        "Incus at {address} rejects the connection after its PROXY header: {source}; upstream.proxy_protocol requires that `incus config get core.https_trusted_proxy` lists the gateway's address, {gateway}"
    )]
    NoProxy {
        address: String,
        gateway: IpAddr,
        source: io::Error,
    },
    #[error(
        "the server at {address} does not support TLS; set upstream.url to the port of `incus config get core.https_address`"
    )]
    NoTls { address: String },
    #[error("the TLS handshake with Incus at {address} failed: {source}; check that Incus listens there, with TLS 1.3")]
    Tls { address: String, source: io::Error },
    #[error("Incus's response is larger than {0} bytes")]
    TooLarge(usize),
    #[error("Incus sent an unexpected response")]
    Unusable,
}

impl Error {
    /// Returns whether the response had a valid header. Incus is available then, and the error has not been logged.
    pub fn is_of_an_answer(&self) -> bool {
        matches!(
            self,
            Self::BrokenOff(_) | Self::Export(_) | Self::Status(..) | Self::TooLarge(_) | Self::Unusable
        )
    }
}
