//! File format of `proxy.toml`: one struct per table, with the defaults of all keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::default_listen;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct File {
    pub(super) tls: Option<TlsTable>,
    pub(super) upstream: UpstreamTable,
    #[serde(default)]
    pub(super) public: PublicTable,
    #[serde(default)]
    pub(super) admin: AdminTable,
    pub(super) store: Option<StoreTable>,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) log: LogTable,
    pub(super) metrics: Option<MetricsTable>,
    #[serde(default)]
    pub(super) reload: ReloadTable,
    #[serde(default)]
    pub(super) status: StatusTable,
}

/// The same file, reduced to the `[status]` table.
#[derive(Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct StatusAlone {
    #[serde(default)]
    pub(super) status: StatusTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct TlsTable {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) private_key: Spanned<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct UpstreamTable {
    #[serde(default = "default_url")]
    pub(super) url: Spanned<String>,
    pub(super) client_certificate: Spanned<PathBuf>,
    pub(super) client_private_key: Spanned<PathBuf>,
    pub(super) server_certificate: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) proxy_protocol: bool,
}

fn default_url() -> Spanned<String> {
    default("https://127.0.0.1:8553")
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct PublicTable {
    pub(super) listen: Spanned<OneOrMany>,
    pub(super) allow: Spanned<OneOrMany>,
    pub(super) deny: Spanned<OneOrMany>,
    pub(super) proxy_protocol_from: Spanned<OneOrMany>,
    pub(super) tls: Option<TlsTable>,
    pub(super) images: Spanned<String>,
    pub(super) page: bool,
    pub(super) title: Option<Spanned<String>>,
    pub(super) max_age: Spanned<String>,
    pub(super) stale_if_error: Spanned<String>,
    pub(super) simplestreams: Spanned<bool>,
    pub(super) file_max_age: Spanned<String>,
}

impl Default for PublicTable {
    fn default() -> Self {
        Self {
            listen: default(default_listen::PUBLIC),
            allow: nobody(),
            deny: nobody(),
            proxy_protocol_from: nobody(),
            tls: None,
            images: default("public"),
            page: true,
            title: None,
            max_age: default("1s"),
            stale_if_error: default("1h"),
            simplestreams: default(false),
            file_max_age: default("1h"),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct AdminTable {
    pub(super) listen: Spanned<OneOrMany>,
    pub(super) allow: Spanned<OneOrMany>,
    pub(super) deny: Spanned<OneOrMany>,
    pub(super) proxy_protocol_from: Spanned<OneOrMany>,
    pub(super) tls: Option<TlsTable>,
    pub(super) clients: Vec<ClientTable>,
}

impl Default for AdminTable {
    fn default() -> Self {
        Self {
            listen: default(default_listen::ADMIN),
            allow: nobody(),
            deny: nobody(),
            proxy_protocol_from: nobody(),
            tls: None,
            clients: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ClientTable {
    pub(super) name: Spanned<String>,
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) fingerprint: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct StoreTable {
    pub(super) directory: Spanned<PathBuf>,
    pub(super) size: Spanned<String>,
}

impl Default for StoreTable {
    fn default() -> Self {
        Self {
            directory: Spanned::new(0..0, PathBuf::from("/var/cache/incus-gate")),
            size: default("20GiB"),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct LimitsTable {
    pub(super) handshake_timeout: Spanned<String>,
    pub(super) header_timeout: Spanned<String>,
    pub(super) max_header_size: Spanned<String>,
    pub(super) idle_timeout: Spanned<String>,
    pub(super) max_connections: Spanned<u64>,
    pub(super) reserved_admin_connections: Option<Spanned<u64>>,
    pub(super) max_connections_per_address: Spanned<u64>,
    pub(super) requests_per_second: Spanned<u64>,
    pub(super) min_send_rate: Spanned<String>,
    pub(super) send_grace: Spanned<String>,
    pub(super) drain_timeout: Spanned<String>,
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self {
            handshake_timeout: default("10s"),
            header_timeout: default("10s"),
            max_header_size: default("64KiB"),
            idle_timeout: default("60s"),
            max_connections: default(4096_u64),
            reserved_admin_connections: None,
            max_connections_per_address: default(256_u64),
            requests_per_second: default(50_u64),
            min_send_rate: default("4KiB"),
            send_grace: default("30s"),
            drain_timeout: default("30s"),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct LogTable {
    pub(super) level: Spanned<String>,
    pub(super) format: Spanned<String>,
    pub(super) audit_file: Option<Spanned<PathBuf>>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self {
            level: default("info"),
            format: default("text"),
            audit_file: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct MetricsTable {
    pub(super) listen: Spanned<OneOrMany>,
}

impl Default for MetricsTable {
    fn default() -> Self {
        Self {
            listen: default("127.0.0.1:9555"),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct StatusTable {
    pub(super) socket: Spanned<PathBuf>,
}

impl Default for StatusTable {
    fn default() -> Self {
        Self {
            socket: Spanned::new(0..0, PathBuf::from("/run/incus-gate/status.sock")),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct ReloadTable {
    pub(super) interval: Spanned<String>,
}

impl Default for ReloadTable {
    fn default() -> Self {
        Self {
            interval: default("1m"),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(super) enum OneOrMany {
    Many(Vec<String>),
    One(String),
}

impl OneOrMany {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::Many(many) => many,
            Self::One(one) => std::slice::from_ref(one),
        }
    }
}

impl From<&str> for OneOrMany {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}

impl From<SocketAddr> for OneOrMany {
    fn from(address: SocketAddr) -> Self {
        Self::One(address.to_string())
    }
}

fn nobody() -> Spanned<OneOrMany> {
    Spanned::new(0..0, OneOrMany::Many(Vec::new()))
}

/// A default value. Its empty span marks that it is not in the file.
fn default<T: From<V>, V>(value: V) -> Spanned<T> {
    Spanned::new(0..0, value.into())
}
