//! Server-side TLS configuration: the certificate, the versions, ALPN, and session resumption.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::client_auth::AskForCertificate;
use super::{CertifiedKey, provider};

/// Creates the configuration of the public port, which requests no client certificate and resumes sessions.
///
/// # Errors
/// Fails if the provider does not support the versions, or if there is no randomness for the ticket keys.
pub fn public_config(identity: &CertifiedKey) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.ticketer = Ticketer::new()?;
    // Clients resume with the last ticket, and each one has a cost.
    config.send_tls13_tickets = 1;
    Ok(with_our_habits(config))
}

/// Creates the configuration of the admin port, which requests a client certificate. Sessions are never resumed, so that
/// every connection proves its identity again.
///
/// # Errors
/// Fails if the provider does not support the versions.
pub fn admin_config(identity: &CertifiedKey) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(Arc::new(AskForCertificate))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(with_our_habits(config))
}

/// Adds the settings of both ports. Incus's own clients send no ALPN and get HTTP/1.1.
fn with_our_habits(mut config: ServerConfig) -> ServerConfig {
    // Uses the server's order: AES-128 first.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
