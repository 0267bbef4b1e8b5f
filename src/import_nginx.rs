//! `incus-gate import-nginx`: translates the configuration of an Nginx in front of Incus into an equivalent `proxy.toml`.
//!
//! The crate [`nginx_import`] translates. This module reads certificates for it, and writes the result.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::HEXLOWER;
use edge::tls::certificate::{self, Fingerprint};
use edge::tls::{read_certificate, read_chain};
use nginx_import::{Certificate, CertificateReader, Fields, Options};
pub use nginx_import::{Outcome, Translation, parse_incus_url};
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::config::{self, default_listen};

/// The reason why the import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// Nginx's configuration cannot be translated.
    #[error(transparent)]
    Input(#[from] nginx_import::ImportError),
    /// The output file cannot be written.
    #[error("cannot write {}: {source}; {}", path.display(), if source.kind() == io::ErrorKind::AlreadyExists { "nothing is overwritten, name another file" } else { "name another file with --output, or be root" })]
    Unwritable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Writes the configuration to `output`, or to stdout, and the report to stderr. `url` is the URL of Incus.
///
/// # Errors
/// Fails if Nginx's configuration cannot be translated, or if the output cannot be written.
pub fn import(file: &Path, output: Option<&Path>, url: Option<&str>) -> Result<Outcome, ImportError> {
    // The same lookup as Incus's own.
    let folder = std::env::var_os("INCUS_DIR").map_or_else(|| "/var/lib/incus".into(), PathBuf::from);
    let translation = translate(file, &folder, url)?;
    let text = translation.config;
    let path = output.unwrap_or_else(|| Path::new("stdout"));
    let written = match output {
        _ if translation.outcome == Outcome::Nothing => Ok(()),
        None => io::stdout().write_all(text.as_bytes()),
        Some(output) => config::create(output, &text),
    };
    written.map_err(|source| ImportError::Unwritable {
        path: path.to_owned(),
        source,
    })?;
    // If stderr is closed, there is no way to report it.
    let _ = io::stderr().write_all(translation.report.as_bytes());
    Ok(translation.outcome)
}

/// Translates the file and all files that it includes. `incus_folder` is the folder of Incus on this machine, `url` its URL.
///
/// # Errors
/// Fails if a file cannot be read, or is not valid Nginx configuration.
pub fn translate(
    file: &Path,
    incus_folder: &Path,
    url: Option<&str>,
) -> Result<Translation, nginx_import::ImportError> {
    let options = Options {
        incus_folder,
        incus_url: url,
        default_public: default_listen::PUBLIC,
        default_admin: default_listen::ADMIN,
        certificates: &PemFiles,
    };
    nginx_import::translate(file, options)
}

/// Reads certificates exactly as the gateway does.
struct PemFiles;

impl CertificateReader for PemFiles {
    fn read_all(&self, file: &Path) -> Result<Vec<Certificate>, String> {
        let chain = read_chain(file).map_err(|error| error.to_string())?;
        Ok(chain.iter().map(describe).collect())
    }

    fn read_one(&self, file: &Path) -> Result<Certificate, String> {
        let certificate = read_certificate(file).map_err(|error| error.to_string())?;
        Ok(describe(&certificate))
    }
}

fn describe(certificate: &CertificateDer<'_>) -> Certificate {
    let fields = || {
        Some(Fields {
            subject: certificate::subject(certificate).ok()?,
            common_name: certificate::common_name(certificate).ok()?,
            is_authority: certificate::is_authority(certificate).ok()?,
        })
    };
    Certificate {
        sha256: Fingerprint::of(certificate).to_string(),
        // It is only used to find certificates that Nginx lists by SHA-1; no access decision of the gateway depends on it.
        sha1: HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref()),
        fields: fields(),
    }
}
