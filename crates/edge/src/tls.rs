//! TLS for both sides: the crypto provider, and PEM files parsed into types.
//!
//! [`server`] configures TLS for clients, [`client_auth`] requests client certificates without authorizing them, and
//! [`upstream`] configures TLS to Incus. [`certificate`] reads the fields of a certificate, [`chain`] checks a chain, and
//! `pem` finds blocks of a PEM file that the parser would skip.

pub mod certificate;
pub mod chain;
pub mod client_auth;
mod pem;
pub mod server;
mod signature;
pub mod upstream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::pem::{Error as ParseError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{self, SigningKey};
use thiserror::Error;

use crate::file;

/// Returns the crypto provider: aws-lc, whose key exchange includes X25519MLKEM768 and whose signatures include P-521, but
/// with AES-GCM from ring, which has twice the throughput on processors with AVX2 and without AVX-512.
///
/// AES-128 comes first. Most clients list AES-256 first by default, and it costs more per handshake and per byte.
pub fn provider() -> Arc<CryptoProvider> {
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

/// ChaCha20 is faster in aws-lc.
fn is_chacha20(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// A certificate chain and the private key of its first certificate, which are known to match.
#[derive(Clone, Debug)]
pub struct CertifiedKey {
    key: Arc<sign::CertifiedKey>,
    private_key_file: PathBuf,
}

impl CertifiedKey {
    /// Reads both PEM files.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if the certificate and the key do not match.
    pub fn load(chain: &Path, private_key: &Path) -> Result<Self, CertifiedKeyError> {
        let certificates = read_chain(chain).map_err(CertifiedKeyError::Certificate)?;
        let key = read_signing_key(private_key).map_err(CertifiedKeyError::PrivateKey)?;
        // Not `sign::CertifiedKey::keys_match`: it fails for X.509 v1, which `openssl` still creates.
        let public_key = certificate::public_key(&certificates[0]).map_err(|source| {
            CertifiedKeyError::Certificate(PemError::Malformed {
                path: chain.to_owned(),
                source,
            })
        })?;
        if key.public_key().as_ref() != Some(&public_key) {
            return Err(CertifiedKeyError::Certificate(PemError::NotAPair {
                chain: chain.to_owned(),
                private_key: private_key.to_owned(),
            }));
        }
        Ok(Self {
            key: Arc::new(sign::CertifiedKey::new(certificates, key)),
            private_key_file: private_key.to_owned(),
        })
    }

    /// Returns the certificate that the key belongs to.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.key.cert[0]
    }

    /// Returns the chain that clients receive: the certificate and those after it in its file.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Returns the path of the private key.
    pub fn private_key_file(&self) -> &Path {
        &self.private_key_file
    }

    /// Returns whether both have the same chain, and the same key from the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.chain() == other.chain() && self.private_key_file == other.private_key_file
    }

    fn certified_key(&self) -> Arc<sign::CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// Reads the first certificate of a PEM file that contains one certificate.
///
/// # Errors
/// Fails if the file has no certificate, or others that are not the chain of the first.
pub fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, PemError> {
    Ok(read_chain_of_one(path)?.swap_remove(0))
}

/// Reads the certificate with its chain. Fails if the file has other certificates, because it would be ambiguous which one is
/// meant.
pub fn read_chain_of_one(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates = read_chain(path)?;
    if let Some(source) = certificates.iter().find_map(|one| certificate::public_key(one).err()) {
        let path = path.to_owned();
        return Err(PemError::Malformed { path, source });
    }
    if !chain::is_chain(&certificates) {
        return Err(PemError::Several {
            path: path.to_owned(),
            number: certificates.len(),
        });
    }
    Ok(certificates)
}

/// Reads all certificates of a PEM file. The result is never empty.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain: Vec<_> = blocks(path, &read(path)?)?;
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
    let key = blocks(path, &text).and_then(|keys| {
        let first = keys.into_iter().next();
        first.ok_or_else(|| PemError::NoKey { path: path.to_owned() })
    });
    // In one format, openssl marks encryption with a header inside the block, which current PEM (RFC 7468) does not have.
    key.map_err(|error| match text.windows(9).any(|word| word == b"ENCRYPTED") {
        true => PemError::EncryptedKey { path: path.to_owned() },
        false => error,
    })
}

/// Parses all blocks of one type. Fails if another block that looks like one would be skipped.
fn blocks<T: PemObject>(path: &Path, text: &[u8]) -> Result<Vec<T>, PemError> {
    let text = pem::without_mark(text);
    let blocks = T::pem_slice_iter(text).collect::<Result<_, _>>();
    let blocks = blocks.map_err(|source| PemError::NotPem {
        path: path.to_owned(),
        source,
    })?;
    match pem::unread_line(text) {
        Some(line) => Err(PemError::Unread {
            path: path.to_owned(),
            line,
        }),
        None => Ok(blocks),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    file::read(path).map_err(|source| PemError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// The file that caused the error; the certificate if the two do not match.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CertifiedKeyError {
    #[error(transparent)]
    Certificate(PemError),
    #[error(transparent)]
    PrivateKey(PemError),
}

/// Failure to load a certificate or a key from a file.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PemError {
    #[error("the private key in {} is encrypted, and the gateway cannot prompt for a passphrase; decrypt it with `openssl pkey`", path.display())]
    EncryptedKey { path: PathBuf },
    #[error("the private key in {} has an unsupported type ({source}); create an ECDSA or Ed25519 key, or an RSA key of 2048 bits or more", path.display())]
    KeyKind { path: PathBuf, source: rustls::Error },
    #[error("cannot parse the certificate in {}: {source}; create a new one", path.display())]
    Malformed {
        path: PathBuf,
        source: certificate::Malformed,
    },
    #[error("{} has no CERTIFICATE block; specify the PEM file of the certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} has no PRIVATE KEY block; specify the PEM file of the private key", path.display())]
    NoKey { path: PathBuf },
    #[error("the first certificate in {} does not match the private key in {}; specify a matching pair", chain.display(), private_key.display())]
    NotAPair { chain: PathBuf, private_key: PathBuf },
    #[error("{} is not a valid PEM file: {}; copy it again, or create a new one", path.display(), fault(source))]
    NotPem { path: PathBuf, source: ParseError },
    #[error("{} contains {number} certificates, and the others are not the chain of the first; put each certificate into a separate file", path.display())]
    Several { path: PathBuf, number: usize },
    #[error("{}:{line}: this line does not begin or end a PEM block; write \"-----BEGIN CERTIFICATE-----\" or \"-----BEGIN PRIVATE KEY-----\" and the matching END line, with five dashes and nothing else on the line", path.display())]
    Unread { path: PathBuf, line: usize },
    #[error("cannot read {}: {source}; {}", path.display(), remedy(source))]
    Unreadable { path: PathBuf, source: io::Error },
}

/// Describes the error without the file's content: if its lines were joined into one, the parser's message contains the key.
fn fault(error: &ParseError) -> &'static str {
    match error {
        ParseError::MissingSectionEnd { .. } => "the BEGIN line has no END line",
        ParseError::IllegalSectionStart { .. } => "BEGIN is not on a line of its own",
        ParseError::Base64Decode(_) => "the content between BEGIN and END is not base64",
        _ => "it cannot be read",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // The sandbox and file permissions cause the same error.
        io::ErrorKind::PermissionDenied => {
            "give the gateway's user read permission; a running gateway needs a restart to read files in a new folder"
        }
        _ => "correct the path or its permissions",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_with_two_certificates_is_rejected() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ops.crt");
        let [first, second] = [(); 2].map(|()| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::default();
            params.self_signed(&key).expect("a certificate")
        });
        let (one, other) = (first.pem(), second.pem());
        let read = |text: String| {
            fs::write(&file, text).expect("written");
            read_certificate(&file).map_err(|error| error.to_string())
        };
        for text in [
            one.clone(),
            format!("\u{feff}{one}"),
            format!("subject=CN=ops\n{one}"),
            format!("{one}{one}"),
        ] {
            assert_eq!(read(text.clone()).as_ref(), Ok(first.der()), "{text}");
        }
        for text in [one.clone() + &other, format!("\u{feff}{one}{other}")] {
            let message = read(text).expect_err("two are not one");
            assert!(message.contains("contains 2 certificates"), "{message}");
        }
        for unread in [format!(" {one}"), one.replacen("-----BEGIN", "----BEGIN", 1)] {
            let message = read(unread + &other).expect_err("the first would not be read");
            assert!(message.contains("ops.crt:1: this line does not"), "{message}");
        }
    }

    #[test]
    fn error_messages_do_not_contain_the_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("gate.key");
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        for (text, message) in [
            // The result of a shell's `echo $KEY`, and the form in an environment variable.
            (key.replace('\n', " "), "BEGIN"),
            (key.replace('\n', "\\n"), "BEGIN"),
            (key.replace("-----END", "-----ENDE"), "the BEGIN line has no END line"),
            (
                key.replace("-----END", "?\n-----END"),
                "the content between BEGIN and END is not base64",
            ),
            (
                format!(
                    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{body}\n-----END EC PRIVATE KEY-----\n"
                ),
                "is encrypted",
            ),
        ] {
            fs::write(&file, text).expect("written");
            let error = read_private_key(&file).expect_err("it is no key").to_string();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains(&body[..8]) && !error.contains(&body[20..28]), "{error}");
        }
    }
}
