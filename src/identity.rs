//! Client identity and authorization: peer certificate → [`Admin`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use edge::counters::label::label;
use edge::peer::PeerCertificate;
use edge::tls::certificate::Validity;
use thiserror::Error;

use crate::config::{AdminClient, CredentialMatcher};
use crate::status::last_seen::Seen;

/// Proof that a request is an administrator's. Only [`AdminRegistry::judge`] creates it.
#[derive(Debug)]
pub struct Admin {
    name: Arc<str>,
    seen: Arc<Seen>,
    certificate: PeerCertificate,
}

impl Admin {
    /// Name in the log.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Records a request from this administrator.
    pub fn record_seen(&self, now: SystemTime, from: IpAddr) {
        self.seen.note(now, from);
    }

    pub(crate) fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }
}

/// Why a client is not an administrator.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthError {
    // Incus's client displays this message to the user when the other server fails to pull.
    #[error(
        "this port requires a client certificate, and this client presented none; present one that admin.clients lists. If \
         another server was to pull from this one, as with `incus image copy` or `incus copy`, repeat the command with \
         --mode relay"
    )]
    NoCertificate,
    #[error("admin.clients does not list this client's certificate; list it there, or present a listed one")]
    Unknown,
    #[error("this client's certificate has expired; create a new one and list it in admin.clients")]
    Expired,
    #[error("this client's certificate is not valid yet; check its dates and this server's clock")]
    NotYetValid,
}

label!(AuthError {
    NoCertificate = "no_certificate",
    Unknown = "unknown_certificate",
    Expired = "expired_certificate",
    NotYetValid = "not_yet_valid_certificate",
});

/// The administrators that a configuration lists.
#[derive(Debug)]
pub struct AdminRegistry(Vec<AdminEntry>);

#[derive(Debug)]
struct AdminEntry {
    client: AdminClient,
    seen: Arc<Seen>,
}

impl AdminRegistry {
    /// Creates a registry. Administrators with the same name in `last` keep their last-seen times.
    pub fn new(clients: Vec<AdminClient>, last: Option<&Self>) -> Self {
        let seen = |name: &str| {
            let known = last?.0.iter().find(|listed| &*listed.client.name == name)?;
            Some(Arc::clone(&known.seen))
        };
        let listed = clients.into_iter().map(|client| AdminEntry {
            seen: seen(&client.name).unwrap_or_default(),
            client,
        });
        Self(listed.collect())
    }

    /// Returns the names, each with the time and address of the last request.
    pub fn seen(&self) -> impl Iterator<Item = (&str, Option<(u64, IpAddr)>)> {
        self.0.iter().map(|listed| (&*listed.client.name, listed.seen.last()))
    }

    /// Authorizes a certificate. This is the only place that decides who is an administrator.
    ///
    /// # Errors
    /// Returns why the client is not an administrator.
    pub fn judge(&self, certificate: Option<&PeerCertificate>, now: SystemTime) -> Result<Admin, AuthError> {
        let certificate = certificate.ok_or(AuthError::NoCertificate)?;
        let AdminEntry { client, seen } = self.find(certificate).ok_or(AuthError::Unknown)?;
        // A certificate with unreadable dates is not valid.
        let validity = Validity::of(certificate.der()).map_err(|_| AuthError::Unknown)?;
        if validity.is_ahead_of(now) {
            return Err(AuthError::NotYetValid);
        }
        if !validity.contains(now) {
            return Err(AuthError::Expired);
        }
        Ok(Admin {
            name: Arc::clone(&client.name),
            seen: Arc::clone(seen),
            certificate: certificate.clone(),
        })
    }

    fn find(&self, certificate: &PeerCertificate) -> Option<&AdminEntry> {
        self.0.iter().find(|listed| match &listed.client.known_by {
            CredentialMatcher::Certificate(der) => der == certificate.der(),
            CredentialMatcher::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint(),
        })
    }
}
