//! `proxy.toml` → [`Config`], which cannot be wrong: every file it names is read, every pair matched, every address parsed.
//!
//! `schema` is the file as written, `parse` makes a configuration of it, `error` is every message that a wrong one earns, `watched_files`
//! the certificates and keys that it names, `units` durations and sizes; `write` writes one.

mod error;
mod parse;
mod schema;
mod units;
mod watched_files;
mod write;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};

pub use self::error::ConfigError;
use self::error::Source;
use self::parse::Loader;
pub use self::watched_files::Files;
pub use self::write::{create, is_example};
use crate::admission::IpAllowList;
use crate::cidr::CidrSet;
use crate::net::Port;
use crate::tls::CertifiedKey;
use crate::tls::certificate::Fingerprint;
use crate::tls::upstream::Pin;

/// Where the configuration is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["proxy.toml", "/etc/incus-gate/proxy.toml"];

/// All that a running gateway needs to know.
#[derive(Debug)]
pub struct Config {
    /// How Incus is reached, and known.
    pub upstream: UpstreamConfig,
    /// The port for everybody.
    pub public: PublicConfig,
    /// The port for those who hold the very certificate.
    pub admin: AdminConfig,
    /// What a client may take of our time and memory.
    pub limits: Limits,
    /// What is told, how, and where.
    pub log: LogConfig,
    /// Addresses to bind for metrics and health; none unless `[metrics]` is there.
    pub metrics: Vec<SocketAddr>,
    /// Where the running gateway tells how it is, if anywhere.
    pub status_socket: Option<PathBuf>,
    /// How often the files are looked at for a change.
    pub reload_interval: Duration,
    /// Every certificate and key that was read.
    pub files: Files,
}

/// `[upstream]`
#[derive(Debug)]
pub struct UpstreamConfig {
    /// As it was written, for messages.
    pub url: String,
    /// Host and port as they were written.
    pub authority: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What goes into TLS as the name asked for; what Incus answers is pinned instead.
    pub server_name: ServerName<'static>,
    /// Our certificate in Incus's trust store.
    pub identity: CertifiedKey,
    /// Incus's own certificate.
    pub pin: Arc<Pin>,
    /// Whether Incus is told for whom each connection is.
    pub proxy_protocol: bool,
}

/// `[public]`
#[derive(Debug)]
pub struct PublicConfig {
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// Who may connect.
    pub access: IpAllowList,
    /// The proxies that say whose connections they bring.
    pub proxies: CidrSet,
    /// What clients see.
    pub tls: CertifiedKey,
    /// Which images strangers see.
    pub images: Visibility,
    /// What a browser gets, if anything.
    pub page: Option<Page>,
    /// The age at which the catalogue is no longer answered from, while Incus can be asked.
    pub max_age: Duration,
    /// The age up to which it is answered from while Incus cannot.
    pub stale_if_error: Duration,
}

/// Which images strangers see, all of project `default`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// Every one.
    All,
    /// Those that Incus calls public.
    Public,
}

/// The page for people.
#[derive(Debug)]
pub struct Page {
    /// Its heading; without one it is made of the server's name.
    pub title: Option<String>,
}

/// `[admin]`
#[derive(Debug)]
pub struct AdminConfig {
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// Who may connect.
    pub access: IpAllowList,
    /// The proxies that say whose connections they bring.
    pub proxies: CidrSet,
    /// What clients see.
    pub tls: CertifiedKey,
    /// Who is let in.
    pub clients: Vec<AdminClient>,
}

/// One of `[[admin.clients]]`
#[derive(Clone, Debug)]
pub struct AdminClient {
    /// What the log calls them.
    pub name: Arc<str>,
    /// What they must present.
    pub known_by: CredentialMatcher,
    /// How many certificates stand behind theirs in its file. They play no part.
    pub others_in_file: usize,
}

/// How an admin's certificate was given.
#[derive(Clone, Debug)]
pub enum CredentialMatcher {
    /// As the file itself.
    Certificate(CertificateDer<'static>),
    /// As its SHA-256.
    Fingerprint(Fingerprint),
}

impl CredentialMatcher {
    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Certificate(certificate) => Fingerprint::of(certificate),
            Self::Fingerprint(fingerprint) => *fingerprint,
        }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time to send the head of a request.
    pub header_timeout: Duration,
    /// Size of the head of a request, in bytes.
    pub max_header_size: usize,
    /// Time for which a connection may do nothing between requests.
    pub idle_timeout: Duration,
    /// Connections, on both ports together.
    pub max_connections: usize,
    /// How many of them the public port may not use.
    pub reserved_admin_connections: usize,
    /// How many of them one address may use on the public port.
    pub max_connections_per_address: usize,
    /// How many requests a second one address may make on the public port, in the long run.
    pub requests_per_second: u32,
    /// How slowly an answer may be taken on the public port, in bytes a second.
    pub min_send_rate: u32,
    /// For how long it may be taken more slowly.
    pub send_grace: Duration,
    /// Time that connections have to finish after SIGTERM.
    pub drain_timeout: Duration,
}

impl Limits {
    /// How many there may be on a port. Those of the admin port are all that there may be on both.
    pub fn connections_of(&self, port: Port) -> usize {
        match port {
            Port::Admin => self.max_connections,
            Port::Public => self.max_connections - self.reserved_admin_connections,
        }
    }
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Which lines are written, in the words of tracing's `EnvFilter`.
    pub level: String,
    /// For whom they are.
    pub format: LogFormat,
    /// Where the audit log goes; without it, where all else does.
    pub audit_file: Option<PathBuf>,
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Machines, an object a line.
    Json,
    /// People.
    Text,
}

impl Config {
    /// The file in use: the one named, or the first of [`DEFAULT_PATHS`] that exists.
    pub fn find(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let default = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        named.or_else(default).ok_or(ConfigError::NotFound)
    }

    /// Reads the file and everything it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::of(&Source::read(path)?)
    }

    /// The same for a file that is going to be there.
    pub fn parse_at(path: &Path, text: String) -> Result<Self, ConfigError> {
        Self::of(&Source::new(path, text))
    }

    fn of(source: &Source) -> Result<Self, ConfigError> {
        let file: schema::File = source.parse()?;
        Loader { source }.load(file)
    }

    /// `status.socket` alone, of a file that may be wrong in all else: the gateway runs on with what it had.
    pub fn status_socket(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        let source = Source::read(path)?;
        let file: schema::StatusAlone = source.parse()?;
        Loader { source: &source }.status(&file.status)
    }
}

/// An admin's name goes into logs: nothing in it may look like another field or another line.
pub fn is_admin_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests;
