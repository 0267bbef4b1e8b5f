//! Who is at the other end, and whether that is an admin: peer certificate → [`Admin`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::config::{AdminClient, CredentialMatcher};
use crate::counters::label::label;
use crate::status::last_seen::Seen;
use crate::tls::certificate::{self, Fingerprint, Validity};

/// Of a subject's characters, so many go into the log: strangers write them.
const MAX_SUBJECT: usize = 200;

/// The other end of a connection, as far as it has proved who it is.
#[derive(Debug)]
pub struct Peer {
    /// API path of the image.
    pub address: SocketAddr,
    /// What it has shown. Nobody has judged it yet.
    pub certificate: Option<PeerCertificate>,
}

/// A client certificate whose key the client has proved to hold.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    der: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl PeerCertificate {
    /// From the leaf that TLS has verified the handshake's signature with. What stands behind the leaf plays no part.
    pub fn new(leaf: &CertificateDer<'_>) -> Self {
        Self {
            fingerprint: Fingerprint::of(leaf),
            der: leaf.clone().into_owned(),
        }
    }

    /// What it is known by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The time until its dates begin or end, whichever comes first after `now`; `None` if neither does.
    pub fn next_change(&self, now: SystemTime) -> Option<Duration> {
        Validity::of(&self.der).ok()?.next_change(now)
    }

    /// What it says of its holder, which anybody can make it say.
    pub fn subject(&self) -> String {
        let subject = certificate::subject(&self.der).unwrap_or_default();
        subject.chars().take(MAX_SUBJECT).collect()
    }
}

/// Proof that a request is an admin's: to hold one is to be let through. Only [`AdminRegistry::judge`] makes it.
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

    /// Notes a request of theirs.
    pub fn is_seen(&self, now: SystemTime, from: IpAddr) {
        self.seen.note(now, from);
    }

    pub(crate) fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }
}

/// Why somebody is no admin.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AuthError {
    // Of a pull, Incus's client shows its user what the other server was told.
    #[error(
        "this port is for admins, and this client presented no certificate; present one that admin.clients lists. If another \
         server was to pull from here, as `incus image copy` and `incus copy` have it do, repeat that with --mode relay"
    )]
    NoCertificate,
    #[error("this port is for admins, and admin.clients does not list this client's certificate")]
    Unknown,
    #[error("this client's certificate has expired; make a new one and list it in admin.clients")]
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

/// Those who are let in.
#[derive(Debug)]
pub struct AdminRegistry(Vec<AdminEntry>);

#[derive(Debug)]
struct AdminEntry {
    client: AdminClient,
    seen: Arc<Seen>,
}

impl AdminRegistry {
    /// The ones that a configuration lists. When they were here, those know who were in force before, by name.
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

    /// Their names, and when they were here last and from where.
    pub fn seen(&self) -> impl Iterator<Item = (&str, Option<(u64, IpAddr)>)> {
        self.0.iter().map(|listed| (&*listed.client.name, listed.seen.last()))
    }

    /// The one place where it is decided who is an admin.
    pub fn judge(&self, certificate: Option<&PeerCertificate>, now: SystemTime) -> Result<Admin, AuthError> {
        let certificate = certificate.ok_or(AuthError::NoCertificate)?;
        let AdminEntry { client, seen } = self.find(certificate).ok_or(AuthError::Unknown)?;
        // A certificate whose dates cannot be read has none that hold.
        let validity = Validity::of(&certificate.der).map_err(|_| AuthError::Unknown)?;
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
            CredentialMatcher::Certificate(der) => *der == certificate.der,
            CredentialMatcher::Fingerprint(fingerprint) => *fingerprint == certificate.fingerprint,
        })
    }
}
