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
use super::targets;
use crate::listener_id::Policy;

/// Maximum length of a logged method, in bytes. Valid methods are shorter.
const MAX_METHOD: usize = 32;

impl RequestRecord {
    /// Writes the line of a request that is over, if `log.level` enables it.
    pub(super) fn log_access(&self) {
        if !tracing::enabled!(target: targets::ACCESS, Level::INFO) {
            return;
        }
        let client = self.client();
        if !tracing::enabled!(target: targets::ACCESS, Level::DEBUG) && self.is_counted_elsewhere() {
            return;
        }
        tracing::info!(
            target: targets::ACCESS,
            port = %client.listener,
            client = %client.peer.address,
            admin = self.user().map(display),
            method = %method(self),
            path = &*redact(self.uri()),
            status = self.status().map(|status| status.as_u16()),
            received = self.received(),
            sent = self.sent(),
            duration_us = microseconds(self.duration()),
            first_byte_us = self.first_byte().map(microseconds),
            upstream_us = self.upstream().map(microseconds),
            http = %http(self.version()),
            tls = %tls(client.tls),
            aborted_by = self.abort_reason().map(display),
            operation = self.operation().map(display),
        );
    }

    /// Returns whether other lines of the log count this request. A stranger's network has a limited number of lines.
    fn is_counted_elsewhere(&self) -> bool {
        let client = self.client();
        // The limiter has logged it.
        let is_limited =
            client.listener.policy() == Policy::Open && self.status() == Some(StatusCode::TOO_MANY_REQUESTS);
        is_limited || (self.user().is_none() && !client.has_log_line())
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
