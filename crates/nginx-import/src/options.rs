//! What the caller provides besides Nginx's files.

use std::net::SocketAddr;
use std::path::Path;

use crate::port::Port;

/// The caller's part of an import.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The folder of Incus on this machine, such as `/var/lib/incus`.
    pub incus_folder: &'a Path,
    /// `https://HOST:PORT`, for a configuration that does not show which `proxy_pass` leads to Incus.
    pub incus_url: Option<&'a str>,
    /// The gateway's default address of the public port.
    pub default_public: SocketAddr,
    /// The gateway's default address of the admin port.
    pub default_admin: SocketAddr,
    /// Reads the certificates that the configuration names.
    pub certificates: &'a dyn CertificateReader,
}

impl Options<'_> {
    pub(crate) fn default_address(&self, port: Port) -> SocketAddr {
        match port {
            Port::Admin => self.default_admin,
            Port::Public => self.default_public,
        }
    }
}

/// Reads certificates from PEM files. The errors are messages that name the file.
pub trait CertificateReader {
    /// Reads all certificates of a file. The result is not empty.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or contains no certificates.
    fn read_all(&self, file: &Path) -> Result<Vec<Certificate>, String>;

    /// Reads the first certificate of a file that contains it, and otherwise only its chain.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if it is ambiguous which certificate is meant.
    fn read_one(&self, file: &Path) -> Result<Certificate, String>;
}

/// A certificate, as far as the import needs it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// SHA-256 of its DER, in lower-case hexadecimal digits, as `proxy.toml` and Incus have it.
    pub sha256: String,
    /// SHA-1 of its DER, in lower-case hexadecimal digits, as Nginx's `$ssl_client_fingerprint` has it.
    pub sha1: String,
    /// Its fields; `None` if it is not a valid X.509 certificate.
    pub fields: Option<Fields>,
}

/// Fields of an X.509 certificate.
#[derive(Clone, Debug)]
pub struct Fields {
    /// The subject's distinguished name in human-readable form.
    pub subject: String,
    /// The subject's common name, if it has one that is text.
    pub common_name: Option<String>,
    /// Whether it may sign other certificates (RFC 5280 §4.2.1.9).
    pub is_authority: bool,
}
