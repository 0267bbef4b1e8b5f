//! The access log: a line for every exchange, when it is over.
//!
//! It is on unless `log.level` turns it off, as with Nginx: who needs it afterwards cannot have it written any more, and
//! under systemd the journal keeps it within bounds.

use std::time::Duration;

use http::{StatusCode, Version};
use rustls::ProtocolVersion;
use tracing::Level;

use super::redact::redact;
use super::request_record::RequestRecord;
use crate::net::Port;

/// By this name `log.level` knows it.
pub const TARGET: &str = "incus_gate::access";

/// Nobody needs more of a method to know that it is none.
const MAX_METHOD: usize = 32;

/// Writes it, unless nobody wants to know.
pub(super) fn record(record: &RequestRecord) {
    if !tracing::enabled!(target: TARGET, Level::INFO) {
        return;
    }
    let client = record.client();
    if !tracing::enabled!(target: TARGET, Level::DEBUG) && is_of_a_crowd(record) {
        return;
    }
    tracing::info!(
        target: TARGET,
        port = %client.port,
        client = %client.peer.address,
        admin = record.admin().map(display),
        method = %method(record),
        path = &*redact(record.uri()),
        status = record.status().map(|status| status.as_u16()),
        received = record.received(),
        sent = record.sent(),
        duration_us = microseconds(record.duration()),
        first_byte_us = record.first_byte().map(microseconds),
        upstream_us = record.upstream().map(microseconds),
        http = %http(record.version()),
        tls = %tls(client.tls),
        aborted_by = record.cut().map(display),
        operation = record.operation().map(display),
    );
}

/// Whether other lines say enough of it.
fn is_of_a_crowd(record: &RequestRecord) -> bool {
    let client = record.client();
    match client.port {
        // Who was refused is counted, after a first line.
        Port::Admin => record.admin().is_none() && !client.worker.refusals().has_line(client.peer.address.ip()),
        // The limiter has written one.
        Port::Public => record.status() == Some(StatusCode::TOO_MANY_REQUESTS),
    }
}

/// A method is of plain characters, as HTTP has them: it needs no quotes.
pub(super) fn method(record: &RequestRecord) -> &str {
    let method = record.method().as_str();
    method.get(..MAX_METHOD).unwrap_or(method)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
