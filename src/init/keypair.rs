//! Generation of certificates and keys: self-signed, valid for ten years, for a single purpose.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge::tls::{PemError, read_certificate};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::time::ASN1Time;

const VALID_FOR: Duration = Duration::from_hours(24 * 3650);
/// Tolerance for clients whose clocks are behind.
const VALID_BEFORE: Duration = Duration::from_hours(24);
/// The group that may read the keys: that of the user in the systemd unit.
const GROUP: &str = "incus-gate";

/// The paths of a certificate and its private key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The type of the key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The type that Incus generates for itself.
    EcdsaP384,
    Rsa4096,
}

/// The extended key usage of the certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Client,
    Server,
}

/// Whether a pair was created now or existed before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Made {
    Before,
    Now,
}

/// The reason why the pair could not be created.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PairError {
    #[error("{} exists, but {} does not; restore the missing file, or move the other one away to create a new pair", there.display(), missing.display())]
    Half { there: PathBuf, missing: PathBuf },
    #[error("cannot create a certificate: {0}")]
    NotMade(#[from] rcgen::Error),
    #[error("cannot write {}: {source}; run this as root, or choose another path with --config", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Pair {
    pub(super) fn at(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }

    /// Creates the pair unless it exists.
    pub(super) fn make(&self, name: &str, purpose: Purpose, kind: Kind) -> Result<Made, PairError> {
        match (self.certificate.exists(), self.key.exists()) {
            (true, true) => return Ok(Made::Before),
            (false, false) => {}
            (true, false) => return Err(half(&self.certificate, &self.key)),
            (false, true) => return Err(half(&self.key, &self.certificate)),
        }
        let (certificate, key) = make(name, purpose, kind)?;
        // The files are written to a temporary folder and then linked to their names, so that a failure leaves no partial pair.
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
    // A client certificate that could sign others would create further clients.
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
    // Independent of the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())
}

/// Makes a key readable for the group, if the package or systemd has created the group and this process is root. Otherwise
/// the next steps contain the commands.
fn open_to_group(key: &Path) {
    if let Some(group) = group()
        && chown(key, None, Some(group)).is_ok()
    {
        let _ = fs::set_permissions(key, fs::Permissions::from_mode(0o640));
    }
}

/// Returns the id of the group of the systemd unit's user.
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
