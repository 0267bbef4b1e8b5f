//! What `incus-gate status --json` says. Scripts rely on these names: docs/OPERATING.md has each of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the gateway is. Times are in seconds since 1970.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Report {
    pub version: String,
    pub pid: u32,
    pub started_at: u64,
    pub state: State,
    pub problem: Option<String>,
    pub configuration: Configuration,
    pub incus: Incus,
    pub images: Images,
    /// By name.
    pub ports: BTreeMap<String, Port>,
    /// By reason, those that there were.
    pub rejected: BTreeMap<String, u64>,
    pub metrics: Vec<String>,
    pub certificates: Vec<Certificate>,
    pub admins: Vec<Admin>,
}

/// Whether requests are welcome.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "their names say it")]
pub enum State {
    Draining,
    NotReady,
    Ready,
}

/// What is in force, and what became of the last reload.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Configuration {
    pub file: String,
    pub in_force_since: u64,
    pub refused_at: Option<u64>,
    pub refusal: Option<String>,
}

/// The Incus behind the gateway.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Incus {
    pub url: String,
    pub answers: bool,
    pub trusts: bool,
    pub version: Option<String>,
    pub problem: Option<String>,
}

/// What strangers see, counted.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Images {
    pub count: Option<u64>,
    pub age_seconds: Option<u64>,
    pub failing: bool,
}

/// One of the two ports.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Port {
    pub addresses: Vec<String>,
    pub connections: u64,
    pub connections_limit: u64,
    pub requests: u64,
    pub server_errors: u64,
    pub aborted: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// When a certificate expires, and what else clients will refuse about it.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Certificate {
    pub certificate: String,
    pub admin: Option<String>,
    pub expires_at: i64,
    /// Whole ones; below zero when it has expired.
    pub days_left: i64,
    /// Of the chain behind it.
    pub problems: Vec<String>,
}

/// Somebody whom the admin port lets in.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md tells what each one is")]
pub struct Admin {
    pub name: String,
    pub last_seen_at: Option<u64>,
    pub last_seen_from: Option<String>,
}
