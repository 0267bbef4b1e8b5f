//! What a configuration says, parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};

use super::watched_files::Files;
use crate::admission::IpAllowList;
use crate::cidr::CidrSet;
use crate::limits::Limits;
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

/// An admin's name goes into logs: nothing in it may look like another field or another line.
pub fn is_admin_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}
