//! The access log: one line per finished request.
//!
//! It is enabled unless `log.level` disables it, as in Nginx: a log that is missing when it is needed cannot be
//! recovered. Under systemd, the journal limits its size.

use std::time::Duration;

use http::{StatusCode, Version};
use rustls::ProtocolVersion;
use tracing::Level;

use super::redact::redact;
use super::request_record::RequestRecord;
use crate::net::Port;

/// Target in `log.level`.
pub const TARGET: &str = "incus_gate::access";

/// Maximum length of a logged method, in bytes. Valid methods are shorter.
const MAX_METHOD: usize = 32;

/// Logs a request, unless the access log is disabled.
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

/// Whether other log lines already cover the request.
fn is_of_a_crowd(record: &RequestRecord) -> bool {
    let client = record.client();
    match client.port {
        // Rejected requests are counted after the first one.
        Port::Admin => record.admin().is_none() && !client.worker.refusals().has_line(client.peer.address.ip()),
        // The limiter has logged it.
        Port::Public => record.status() == Some(StatusCode::TOO_MANY_REQUESTS),
    }
}

/// Returns the method, truncated. HTTP methods contain no characters that need quoting.
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
