//! The audit log: which admin has changed what, from where, and who was refused.
//!
//! A request is told of when its answer begins, not when it ends: a shell may be open for days.

use http::{Method, StatusCode};

use super::access::method;
use super::redact::redact;
use super::request_record::RequestRecord;
use super::targets;

impl RequestRecord {
    /// Tells of an admin's request that may change something or opens a tunnel, once it is known what comes of it. Only methods
    /// that are known to read are left out.
    pub(super) fn log_audit(&self) {
        let Some(admin) = self.admin() else { return };
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
