//! Requests a client certificate and verifies that the client holds its key, but does not authorize it.
//!
//! [`crate::admin`] decides for every request who the client is. A rejected handshake would end `incus remote add` before it
//! has read the server's certificate, and a decision made once would outlive a reload. The verification consists of the
//! handshake signature by the certificate's key, which is all that TLS provides.

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error};

use super::signature;

/// The client certificate verifier of the admin port.
#[derive(Debug)]
pub(super) struct AskForCertificate;

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Empty, because Go's TLS sends no certificate at all if the hints do not name its issuer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signature::verify_methods!();
}
