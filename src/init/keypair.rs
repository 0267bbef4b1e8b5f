//! A certificate and its key, made here: self-signed, good for ten years, and for one purpose.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::time::ASN1Time;

use crate::tls::{PemError, read_certificate};

const VALID_FOR: Duration = Duration::from_hours(24 * 3650);
/// Clocks of clients may be slow.
const VALID_BEFORE: Duration = Duration::from_hours(24);
/// Whose members may read a key: the group of the user that the systemd unit names.
const GROUP: &str = "incus-gate";

/// Two files of one name.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What the key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// As Incus makes its own.
    EcdsaP384,
    Rsa4096,
}

/// What the certificate is good for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Client,
    Server,
}

/// When a pair was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Made {
    Before,
    Now,
}

/// Why there is no such pair.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PairError {
    #[error("{} is there and {} is not: half of a pair is of no use; move it away, and both are made anew", there.display(), missing.display())]
    Half { there: PathBuf, missing: PathBuf },
    #[error("cannot make a certificate: {0}")]
    NotMade(#[from] rcgen::Error),
    #[error("cannot write {}: {source}; run this as root, or choose another place with --config", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Pair {
    pub(super) fn at(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }

    /// Makes it, if it is not there.
    pub(super) fn make(&self, name: &str, purpose: Purpose, kind: Kind) -> Result<Made, PairError> {
        match (self.certificate.exists(), self.key.exists()) {
            (true, true) => return Ok(Made::Before),
            (false, false) => {}
            (true, false) => return Err(half(&self.certificate, &self.key)),
            (false, true) => return Err(half(&self.key, &self.certificate)),
        }
        let (certificate, key) = make(name, purpose, kind)?;
        // Aside, and then under their names, so that a failure leaves no half of a pair.
        let aside = self.certificate.with_extension(format!("new.{}", std::process::id()));
        let write = || {
            DirBuilder::new()
                .mode(0o700)
                .create(&aside)
                .map_err(|error| (aside.clone(), error))?;
            for (path, content, mode) in [(&self.key, &key, 0o600), (&self.certificate, &certificate, 0o644)] {
                let new = aside.join(path.file_name().unwrap_or_default());
                write_new(&new, content, mode)
                    .and_then(|()| fs::hard_link(&new, path))
                    .map_err(|error| (path.clone(), error))?;
            }
            Ok(())
        };
        let written = write();
        // Clean up in any case. After a rename, the file is already gone.
        let _ = fs::remove_dir_all(&aside);
        written.map_err(|(path, source)| PairError::Unwritable { path, source })?;
        open_to_group(&self.key);
        Ok(Made::Now)
    }

    pub(super) fn read(&self) -> Result<CertificateDer<'static>, PemError> {
        read_certificate(&self.certificate)
    }
}

fn make(name: &str, purpose: Purpose, kind: Kind) -> Result<(String, String), rcgen::Error> {
    let key = match kind {
        Kind::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
        Kind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A client's key that could sign would make more clients.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Server => {
            params.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        }
    };
    let now = ASN1Time::now().to_datetime();
    params.not_before = now - VALID_BEFORE;
    params.not_after = now + VALID_FOR;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the umask of who runs this.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())
}

/// Where the package or systemd has made the group, and we are root. Else the next steps say how.
fn open_to_group(key: &Path) {
    if let Some(group) = group()
        && chown(key, None, Some(group)).is_ok()
    {
        let _ = fs::set_permissions(key, fs::Permissions::from_mode(0o640));
    }
}

/// The number of the group that the unit's user is in.
pub(super) fn group() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups
        .lines()
        .find_map(|line| line.strip_prefix(GROUP)?.strip_prefix(':'));
    line?.split(':').nth(1)?.parse().ok()
}

fn half(there: &Path, missing: &Path) -> PairError {
    PairError::Half {
        there: there.to_owned(),
        missing: missing.to_owned(),
    }
}
