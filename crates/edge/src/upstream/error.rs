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
    #[error("Incus broke off in the middle of an answer: {0}")]
    BrokenOff(#[source] hyper::Error),
    #[error("the client did not send its whole request: {0}")]
    Client(#[source] hyper::Error),
    #[error(
        "cannot connect to Incus at {address}: {source}; is it running, and does `incus config get core.https_address` agree?"
    )]
    Connect { address: String, source: io::Error },
    #[error("Incus did not answer sensibly: its answer has a length and chunks, or another coding than chunks")]
    Framing,
    #[error("Incus did not answer sensibly: {0}")]
    Http(#[source] hyper::Error),
    #[error("Incus answered {0} with {1}")]
    Status(String, StatusCode),
    #[error("Incus did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error(
        "what answers at {address} is not the Incus that was pinned; if Incus has a new certificate, put it at upstream.server_certificate"
    )]
    NotPinned { address: String },
    #[error(
        "Incus at {address} refuses the connection behind its PROXY header: {source}; with upstream.proxy_protocol, `incus config get core.https_trusted_proxy` must name the address it comes from, {gateway}"
    )]
    NoProxy {
        address: String,
        gateway: IpAddr,
        source: io::Error,
    },
    #[error("what listens at {address} speaks no TLS; is that the port of `incus config get core.https_address`?")]
    NoTls { address: String },
    #[error("the TLS handshake with Incus at {address} failed: {source}; does Incus speak TLS 1.3 there?")]
    Tls { address: String, source: io::Error },
    #[error("Incus's answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("Incus answered something that was not asked for")]
    Unusable,
}

impl Error {
    /// Returns whether the response had a valid header. Incus is available then, and the error has not been logged.
    pub fn is_of_an_answer(&self) -> bool {
        matches!(
            self,
            Self::BrokenOff(_) | Self::Status(..) | Self::TooLarge(_) | Self::Unusable
        )
    }
}
