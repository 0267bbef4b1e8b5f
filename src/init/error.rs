//! Why the setup failed.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::incus::LocalError;
use super::keypair::PairError;
use super::prompt::AskError;
use crate::config::ConfigError;
use crate::tls::CertifiedKeyError;

/// The reason why the setup failed or is incomplete.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InitError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "`{0}` is no name for an admin; use 1 to 64 of the characters a-z A-Z 0-9 - _ . @ +, no dot first, and neither `server` nor `incus-client`"
    )]
    AdminName(String),
    #[error("something above is not as it should be yet; mend it, then see with `incus-gate check --config {}`", .0.display())]
    Check(PathBuf),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--{}: {source}", option(source))]
    CertifiedKey { source: CertifiedKeyError },
    #[error(transparent)]
    Incus(#[from] LocalError),
    #[error("cannot list the admin {name} at the end of the file: {source}. List {} there by hand", certificate.display())]
    NotAdded {
        name: String,
        certificate: PathBuf,
        source: ConfigError,
    },
    #[error(transparent)]
    Pair(#[from] PairError),
    #[error("`{0}` is no name that clients could ask for; give a DNS name without a *, like --name lxc.example.org")]
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
        io::ErrorKind::PermissionDenied => "run this as root, or choose another place with --config",
        io::ErrorKind::AlreadyExists => "it has come to be there meanwhile, and is never overwritten",
        _ => "choose another place with --config",
    }
}
