//! The audit log: which administrator changed what from which address, and which certificates were rejected.
//!
//! A request is logged when its response begins, not when it ends: a shell may stay open for days.

use http::{Method, StatusCode};

use super::access::method;
use super::redact::redact;
use super::request_record::RequestRecord;
use super::targets;

impl RequestRecord {
    /// Logs an administrator's request that may change something or opens a tunnel, when its result is known. Only the
    /// read-only methods GET and HEAD are left out.
    pub(super) fn log_audit(&self) {
        let Some(admin) = self.user() else { return };
        let is_tunnel = self.status() == Some(StatusCode::SWITCHING_PROTOCOLS);
        if !is_tunnel && matches!(*self.method(), Method::GET | Method::HEAD) {
            return;
        }
        tracing::info!(
            target: targets::AUDIT,
            admin = %admin,
            client = %self.client().peer.address,
            method = %method(self),
            path = &*redact(self.uri()),
            status = self.status().map(|status| status.as_u16()),
            operation = self.operation().map(display),
            "{}", if is_tunnel { "tunnel" } else { "request" }
        );
    }
}
