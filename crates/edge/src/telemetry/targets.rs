//! Names by which `log.level` knows two kinds of lines.

/// Of the access log.
pub const ACCESS: &str = "incus_gate::access";
/// Of the audit log. No level turns these lines off.
pub const AUDIT: &str = "incus_gate::audit";
