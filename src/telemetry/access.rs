//! The access log: a line for every exchange, when it is over.
//!
//! It is on unless `log.level` turns it off, as with Nginx: who needs it afterwards cannot have it written any more, and
//! under systemd the journal keeps it within bounds.

use std::time::Duration;

use http::Version;
use rustls::ProtocolVersion;
use tracing::Level;

use super::exchange::Exchange;
use super::mask::masked;

/// By this name `log.level` knows it.
pub const TARGET: &str = "incus_gate::access";

/// Nobody needs more of a method to know that it is none.
const MAX_METHOD: usize = 32;

/// Writes it, unless nobody wants to know.
pub(super) fn record(exchange: &Exchange) {
    if !tracing::enabled!(target: TARGET, Level::INFO) {
        return;
    }
    let client = exchange.client();
    tracing::info!(
        target: TARGET,
        port = %client.port,
        client = %client.peer.address,
        admin = exchange.admin(),
        method = method(exchange),
        path = &*masked(exchange.uri()),
        status = exchange.status().map(|status| status.as_u16()),
        received = exchange.received(),
        sent = exchange.sent(),
        duration = seconds(exchange.duration()),
        first_byte = exchange.first_byte().map(seconds),
        upstream = exchange.upstream().map(seconds),
        http = http(exchange.version()),
        tls = tls(client.tls),
        cut = exchange.cut().map(|cut| cut.as_str()),
        operation = exchange.operation(),
    );
}

/// A method is of plain characters, which hyper has seen to.
pub(super) fn method(exchange: &Exchange) -> &str {
    let method = exchange.method().as_str();
    method.get(..MAX_METHOD).unwrap_or(method)
}

/// Whole microseconds: what lies behind them is noise.
fn seconds(duration: Duration) -> f64 {
    Duration::from_micros(duration.as_micros() as u64).as_secs_f64()
}

fn http(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => "other",
    }
}

fn tls(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2",
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => "other",
    }
}
