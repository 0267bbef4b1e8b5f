//! Verifies handshake signatures against a certificate's bare public key.
//!
//! rustls's own helpers parse the certificate with webpki, which rejects X.509 v1. A signature only depends on the public
//! key, so only that is read. The signature of one certificate by the key of another is verified in the same way.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use webpki::RawPublicKeyEntity;

use super::certificate;

/// The methods of a certificate verifier that verify handshake signatures. `ClientCertVerifier` and `ServerCertVerifier` both
/// require them.
macro_rules! verify_methods {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::signature::verify_tls12(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $crate::tls::signature::verify_tls13(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::tls::signature::schemes()
        }
    };
}
pub(super) use verify_methods;

pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let spki = certificate::public_key(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| CertificateError::BadEncoding)?;
    // In TLS 1.2 a scheme names a hash and a key type, but no curve. Any algorithm that fits the key is accepted.
    algorithms()
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signature.scheme)
        .flat_map(|(_, algorithms)| *algorithms)
        .find(|algorithm| {
            key.verify_signature(**algorithm, message, signature.signature())
                .is_ok()
        })
        .map(|_| HandshakeSignatureValid::assertion())
        .ok_or_else(|| CertificateError::BadSignature.into())
}

pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let spki = certificate::public_key(certificate).map_err(|_| CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &spki, signature, &algorithms())
}

/// Returns whether the signature is by this key, with any algorithm that fits.
pub(super) fn is_by(key: &SubjectPublicKeyInfoDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    RawPublicKeyEntity::try_from(key).is_ok_and(|key| {
        let mut algorithms = algorithms().all.iter();
        algorithms.any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    })
}

pub(super) fn schemes() -> Vec<SignatureScheme> {
    algorithms().supported_schemes()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
