//! TLS to Incus: the gateway's client certificate, and the pinned server certificate.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, Error};

use super::{CertifiedKey, PemError, provider, read_certificate, signature};
use crate::file::Reader;

/// Timeout of a worker for reading the pinned file. All of its clients wait meanwhile.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Creates the client configuration: only TLS 1.3, like Incus, and no ALPN, because Incus would offer only `h2`, which has no
/// upgrades.
///
/// # Panics
/// Panics if the provider has no TLS 1.3 cipher suite.
pub fn client_config(identity: &CertifiedKey, pin: Arc<Pin>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs supports TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(pin)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    // Connections are pooled, so handshakes are rare. Each one checks the current pin.
    config.resumption = Resumption::disabled();
    config
}

/// The certificate that Incus must present, byte for byte, regardless of its names and validity.
#[derive(Debug)]
pub struct Pin(Option<PinnedFile>);

#[derive(Debug)]
struct PinnedFile {
    path: PathBuf,
    reader: Mutex<Reader>,
    certificate: RwLock<CertificateDer<'static>>,
}

impl Pin {
    /// Pins the certificate in a PEM file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn file(path: PathBuf) -> Result<Self, PemError> {
        let certificate = RwLock::new(read_certificate(&path)?);
        let reader = Mutex::default();
        Ok(Self(Some(PinnedFile {
            path,
            reader,
            certificate,
        })))
    }

    /// Pins nothing, for a server on the loopback interface, where only root can intercept. Returns `None` for other hosts.
    pub fn none_on_loopback(host: &str) -> Option<Self> {
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        loopback.then_some(Self(None))
    }

    /// Returns whether both name the same file and have read the same certificate from it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.path() == other.path() && self.certificate() == other.certificate()
    }

    /// Returns the file, if a certificate is pinned.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|pinned| pinned.path.as_path())
    }

    /// Returns the certificate, if one is pinned.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.0.as_ref().map(PinnedFile::certificate)
    }
}

impl PinnedFile {
    fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the certificate matches. Incus may have renewed its certificate, so on a mismatch the file is read
    /// again.
    fn accepts(&self, presented: &CertificateDer<'_>) -> bool {
        if self.certificate() == *presented {
            return true;
        }
        match self.read_again() {
            Ok(renewed) if renewed == *presented => {
                *self.certificate.write().unwrap_or_else(PoisonError::into_inner) = renewed;
                tracing::info!(file = %self.path.display(), "Incus has renewed its certificate; the new one is pinned");
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "cannot reload upstream.server_certificate");
                false
            }
        }
    }
}

impl PinnedFile {
    fn read_again(&self) -> Result<CertificateDer<'static>, PemError> {
        let path = self.path.clone();
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = reader.run_blocking(READ_TIMEOUT, move || read_certificate(&path));
        read.unwrap_or_else(|source| {
            Err(PemError::Unreadable {
                path: self.path.clone(),
                source,
            })
        })
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.0 {
            Some(pinned) if !pinned.accepts(end_entity) => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    signature::verify_methods!();
}
