//! What a configuration says, parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge::admission::IpAllowList;
use edge::cidr::CidrSet;
use edge::limits::Limits;
use edge::telemetry::log::LogConfig;
use edge::tls::CertifiedKey;
use edge::tls::certificate::Fingerprint;
use edge::upstream::UpstreamConfig;
use rustls::pki_types::CertificateDer;

use super::listeners::ConfiguredListener;
use super::watched_files::Files;

/// Paths of the configuration if none is given, in order of precedence.
pub const DEFAULT_PATHS: [&str; 2] = ["proxy.toml", "/etc/incus-gate/proxy.toml"];

/// The configuration of the gateway.
#[derive(Debug)]
pub struct Config {
    /// Address and certificates for the connection to Incus.
    pub upstream: UpstreamConfig,
    /// The public port, for anyone.
    pub public: PublicConfig,
    /// The admin port, for clients with a listed certificate.
    pub admin: AdminConfig,
    /// The files of published images on disk, if enabled.
    pub store: Option<StoreConfig>,
    /// The listeners of these two.
    pub listeners: Vec<ConfiguredListener<Table>>,
    /// Limits on the time and memory that a client may use.
    pub limits: Limits,
    /// Level, format and destination of the log.
    pub log: LogConfig,
    /// Addresses to bind for metrics and health checks. Empty without `[metrics]`.
    pub metrics: Vec<SocketAddr>,
    /// Path of the status socket, if enabled.
    pub status_socket: Option<PathBuf>,
    /// Interval between checks for changed files.
    pub reload_interval: Duration,
    /// The certificates and keys that were read.
    pub files: Files,
}

/// A table whose service is mounted on a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// `[admin]`
    Admin,
    /// `[public]`
    Public,
}

/// `[public]`
#[derive(Debug)]
pub struct PublicConfig {
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// Client addresses that may connect.
    pub access: IpAllowList,
    /// Addresses of proxies that send a PROXY protocol header.
    pub proxies: CidrSet,
    /// Server certificate.
    pub tls: CertifiedKey,
    /// Which images are visible.
    pub images: Visibility,
    /// The HTML page, if enabled.
    pub page: Option<Page>,
    /// Maximum age of the image list while Incus is available.
    pub max_age: Duration,
    /// Maximum age of the image list while Incus is unavailable.
    pub stale_if_error: Duration,
    /// Whether the images are served as simplestreams too. Implies [`Config::store`].
    pub simplestreams: bool,
    /// How long caches may keep a file of an image without asking.
    pub file_max_age: Duration,
}

/// `[store]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreConfig {
    /// Its directory.
    pub directory: PathBuf,
    /// Maximum size of all files in bytes.
    pub size: u64,
}

/// Which images of the project `default` are visible on the public port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// All images.
    All,
    /// Images that Incus marks as public.
    Public,
}

/// The HTML page.
#[derive(Debug)]
pub struct Page {
    /// Heading. The default contains the server's host name.
    pub title: Option<String>,
    /// Whether it shows how to add the server as a simplestreams remote.
    pub simplestreams: bool,
}

/// `[admin]`
#[derive(Debug)]
pub struct AdminConfig {
    /// Addresses to bind.
    pub listen: Vec<SocketAddr>,
    /// Client addresses that may connect.
    pub access: IpAllowList,
    /// Addresses of proxies that send a PROXY protocol header.
    pub proxies: CidrSet,
    /// Server certificate.
    pub tls: CertifiedKey,
    /// The administrators.
    pub clients: Vec<AdminClient>,
}

/// `[[admin.clients]]`
#[derive(Clone, Debug)]
pub struct AdminClient {
    /// Name in the log.
    pub name: Arc<str>,
    /// Certificate that the client must present.
    pub known_by: CredentialMatcher,
    /// Number of further certificates in the file. They are ignored.
    pub others_in_file: usize,
}

/// How an administrator's certificate is configured.
#[derive(Clone, Debug)]
pub enum CredentialMatcher {
    /// By a certificate file.
    Certificate(CertificateDer<'static>),
    /// By a SHA-256 fingerprint.
    Fingerprint(Fingerprint),
}

impl CredentialMatcher {
    /// SHA-256 fingerprint of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Certificate(certificate) => Fingerprint::of(certificate),
            Self::Fingerprint(fingerprint) => *fingerprint,
        }
    }
}

/// Whether a text is a valid administrator's name. Names are logged: they must not contain characters that could be
/// mistaken for other fields or lines.
pub fn is_admin_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}
