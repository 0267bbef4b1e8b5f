//! What both sides of TLS share: the crypto provider, and PEM files read into types.
//!
//! [`server`] is what clients see, [`exact_match`] asks them for a certificate without judging it, [`upstream`] is what
//! Incus sees. [`certificate`] holds what can be said about any certificate.

pub mod certificate;
pub mod exact_match;
pub mod server;
mod signature;
pub mod upstream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

use crate::file;

/// The one source of cryptography: aws-lc, whose key exchange has X25519MLKEM768 and whose signatures have P-521, but with
/// AES-GCM from ring, which seals twice as many bytes a second on processors with AVX2 and without AVX-512.
///
/// AES-128 comes first: most clients name AES-256 first, by habit, and it costs more of every handshake and every byte.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        let rings = ring::ALL_CIPHER_SUITES
            .iter()
            .find(|rings| rings.suite() == suite.suite());
        match rings {
            Some(rings) if !is_chacha20(suite.suite()) => *suite = *rings,
            _ => {}
        }
    }
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// aws-lc is the faster one at these.
fn is_chacha20(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// A certificate chain and the private key of its first certificate, known to belong together.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    private_key_file: PathBuf,
}

impl Identity {
    /// Reads both PEM files.
    pub fn load(chain: &Path, private_key: &Path) -> Result<Self, IdentityError> {
        let certificates = read_chain(chain).map_err(IdentityError::Certificate)?;
        let key = read_signing_key(private_key).map_err(IdentityError::PrivateKey)?;
        // Not `CertifiedKey::keys_match`: it fails for X.509 v1, which `openssl` still makes.
        let public_key = certificate::public_key(&certificates[0]).map_err(|source| {
            IdentityError::Certificate(PemError::Malformed {
                path: chain.to_owned(),
                source,
            })
        })?;
        if key.public_key().as_ref() != Some(&public_key) {
            return Err(IdentityError::Certificate(PemError::NotAPair {
                chain: chain.to_owned(),
                private_key: private_key.to_owned(),
            }));
        }
        Ok(Self {
            key: Arc::new(CertifiedKey::new(certificates, key)),
            private_key_file: private_key.to_owned(),
        })
    }

    /// The certificate that the key belongs to.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.key.cert[0]
    }

    /// Where its private key lies.
    pub fn private_key_file(&self) -> &Path {
        &self.private_key_file
    }

    /// Whether both have the same certificate, and the same key from the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.certificate() == other.certificate() && self.private_key_file == other.private_key_file
    }

    fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// Reads the first certificate of a PEM file.
pub fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, PemError> {
    let first = read_chain(path)?.swap_remove(0);
    certificate::public_key(&first).map_err(|source| PemError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    Ok(first)
}

/// Every certificate of a PEM file; never empty.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| PemError::NotPem {
            path: path.to_owned(),
            source,
        })?;
    if chain.is_empty() {
        return Err(PemError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn read_signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, PemError> {
    aws_lc_rs::sign::any_supported_type(&read_private_key(path)?).map_err(|source| PemError::KeyKind {
        path: path.to_owned(),
        source,
    })
}

fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| match source {
        // Of one kind openssl says so in a header within the block, which is none of PEM's of today.
        _ if text.windows(9).any(|word| word == b"ENCRYPTED") => PemError::EncryptedKey { path: path.to_owned() },
        pem::Error::NoItemsFound => PemError::NoKey { path: path.to_owned() },
        source => PemError::NotPem {
            path: path.to_owned(),
            source,
        },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    file::read(path).map_err(|source| PemError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Which of the two files is to blame; where they do not belong together, the first.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IdentityError {
    #[error(transparent)]
    Certificate(PemError),
    #[error(transparent)]
    PrivateKey(PemError),
}

/// Why a certificate or a key could not be had from a file.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PemError {
    #[error("the private key in {} is encrypted, and nobody is there to type its password; decrypt it with `openssl pkey`", path.display())]
    EncryptedKey { path: PathBuf },
    #[error("the private key in {} is of no kind this program can use ({source}); make an ECDSA, Ed25519 or RSA key of 2048 bits or more", path.display())]
    KeyKind { path: PathBuf, source: rustls::Error },
    #[error("the certificate in {} cannot be read: {source}; make it anew", path.display())]
    Malformed {
        path: PathBuf,
        source: certificate::Malformed,
    },
    #[error("{} has no CERTIFICATE block; give the certificate's PEM file", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} has no PRIVATE KEY block; give the private key's PEM file", path.display())]
    NoKey { path: PathBuf },
    #[error("the first certificate in {} and the private key in {} do not belong together; give a pair", chain.display(), private_key.display())]
    NotAPair { chain: PathBuf, private_key: PathBuf },
    #[error("{} is not a whole PEM file: {}; copy it again, or make it anew", path.display(), fault(source))]
    NotPem { path: PathBuf, source: pem::Error },
    #[error("cannot read {}: {source}; {}", path.display(), remedy(source))]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Nothing of the file itself: where its lines have become one, the key stands in it.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it has no line END for its line BEGIN",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN is no line of its own",
        pem::Error::Base64Decode(_) => "between its lines BEGIN and END is something else than base64",
        _ => "it cannot be read",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // Which of the two it was cannot be told from within.
        io::ErrorKind::PermissionDenied => {
            "let the gateway's user read it; one that runs already needs a restart for files in folders that are new to it"
        }
        _ => "correct the path or its permissions",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_message_has_the_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("gate.key");
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        for (text, told) in [
            // As a shell's `echo $KEY` has it, and as an environment does.
            (key.replace('\n', " "), "BEGIN"),
            (key.replace('\n', "\\n"), "BEGIN"),
            (key.replace("-----END", "-----ENDE"), "it has no line END"),
            (key.replace("-----END", "?\n-----END"), "something else than base64"),
            (
                format!(
                    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{body}\n-----END EC PRIVATE KEY-----\n"
                ),
                "is encrypted",
            ),
        ] {
            fs::write(&file, text).expect("written");
            let error = read_private_key(&file).expect_err("it is no key").to_string();
            assert!(error.contains(told), "{error}");
            assert!(!error.contains(&body[..8]) && !error.contains(&body[20..28]), "{error}");
        }
    }
}
