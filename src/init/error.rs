//! Why the setup failed.

use std::io;
use std::path::{Path, PathBuf};

use edge::tls::CertifiedKeyError;
use thiserror::Error;

use super::incus::LocalError;
use super::keypair::PairError;
use super::prompt::AskError;
use crate::config::ConfigError;

/// The reason why the setup failed or is incomplete.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InitError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "`{0}` is not a valid administrator name; use 1 to 64 of the characters a-z A-Z 0-9 - _ . @ +, not beginning with a dot, and not `server` or `incus-client`"
    )]
    AdminName(String),
    #[error("a check above failed; fix the problem, then run `incus-gate check --config {}`", .0.display())]
    Check(PathBuf),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--{}: {source}", option(source))]
    CertifiedKey { source: CertifiedKeyError },
    #[error(transparent)]
    Incus(#[from] LocalError),
    #[error("cannot append the administrator {name} to the file: {source}; add {} to it yourself", certificate.display())]
    NotAdded {
        name: String,
        certificate: PathBuf,
        source: ConfigError,
    },
    #[error(transparent)]
    Pair(#[from] PairError),
    #[error("`{0}` is not a valid server name; specify a DNS name without a wildcard, such as --name lxc.example.org")]
    ServerName(String),
    #[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
    Unwritable { path: PathBuf, source: io::Error },
}

pub(super) fn unwritable(path: &Path, source: io::Error) -> InitError {
    InitError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

fn option(error: &CertifiedKeyError) -> &'static str {
    match error {
        CertifiedKeyError::Certificate(_) => "certificate",
        CertifiedKeyError::PrivateKey(_) => "private-key",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root, or choose another path with --config",
        io::ErrorKind::AlreadyExists => {
            "it was created in the meantime, and init never overwrites a file; run init again"
        }
        _ => "choose another path with --config",
    }
}
