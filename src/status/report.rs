//! The report of `incus-gate status --json`. Scripts depend on the field names; docs/OPERATING.md documents each of
//! them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::simplestreams::Simplestreams;

/// The status report. Times are Unix times in seconds.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Report {
    pub version: String,
    pub pid: u32,
    pub started_at: u64,
    pub state: State,
    pub problem: Option<String>,
    pub configuration: Configuration,
    pub incus: Incus,
    pub images: Images,
    /// `None` without `[store]`.
    pub store: Option<Store>,
    /// `None` if they are not served.
    pub simplestreams: Option<Simplestreams>,
    /// Ports by name.
    pub ports: BTreeMap<String, Port>,
    /// Nonzero counts by reason.
    pub rejected: BTreeMap<String, u64>,
    pub metrics: Vec<String>,
    pub certificates: Vec<Certificate>,
    pub admins: Vec<Admin>,
}

/// Whether the gateway serves requests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are self-explanatory")]
pub enum State {
    Draining,
    NotReady,
    Ready,
}

/// The active configuration, and the result of the last reload.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Configuration {
    pub file: String,
    pub loaded_at: u64,
    pub reload_failed_at: Option<u64>,
    pub reload_error: Option<String>,
}

/// The upstream Incus server.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Incus {
    pub url: String,
    pub available: bool,
    pub trusts: bool,
    pub version: Option<String>,
    pub problem: Option<String>,
}

/// Number and age of the public images.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Images {
    pub count: Option<u64>,
    pub age_seconds: Option<u64>,
    pub failing: bool,
}

/// The store: where it is, what it has, and what became of it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Store {
    pub directory: String,
    pub problem: Option<String>,
    pub images: u64,
    pub filling: u64,
    pub bytes: u64,
    pub limit_bytes: u64,
    pub hits: u64,
    pub misses: u64,
    pub disk_errors: u64,
    pub bad_exports: u64,
    pub evicted: u64,
    pub unpublished: u64,
    /// Nonzero counts by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// State and counters of a port.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
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

/// Expiry and problems of a certificate.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Certificate {
    pub certificate: String,
    pub admin: Option<String>,
    pub expires_at: i64,
    /// Whole days, rounded down; negative after expiry.
    pub days_left: i64,
    /// Problems of its chain that make clients reject the certificate.
    pub problems: Vec<String>,
}

/// An administrator listed in the configuration.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Admin {
    pub name: String,
    pub last_seen_at: Option<u64>,
    pub last_seen_from: Option<String>,
}
