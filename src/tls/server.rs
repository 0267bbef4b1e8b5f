//! What clients see of our TLS: the certificate, the versions, ALPN, and who may resume a session.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::client_auth::AskForCertificate;
use super::{CertifiedKey, provider};

/// For the public port: no certificate is asked for, and sessions may be resumed.
pub fn public_config(identity: &CertifiedKey) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.ticketer = Ticketer::new()?;
    // Clients resume with the last one they got; each costs.
    config.send_tls13_tickets = 1;
    Ok(with_our_habits(config))
}

/// For the admin port: a certificate is asked for. No session is ever resumed, so that every connection proves its
/// identity anew.
pub fn admin_config(identity: &CertifiedKey) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(Arc::new(AskForCertificate))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(with_our_habits(config))
}

/// Incus's own clients send no ALPN and get HTTP/1.1.
fn with_our_habits(mut config: ServerConfig) -> ServerConfig {
    // Ours: AES-128 first.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
