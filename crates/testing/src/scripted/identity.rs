//! The scripted upstream's certificate and TLS settings. It requests a client certificate.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;

use crate::tls::trust::AcceptAnyCertificate;

/// Creates a certificate. Returns the TLS settings and the PEM.
pub(super) fn make() -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().expect("a key can be created");
    let certificate = CertificateParams::new(["scripted.test".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate can be created");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(Arc::new(AcceptAnyCertificate::with_key()))
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("the key matches the certificate");
    (Arc::new(config), certificate.pem())
}
