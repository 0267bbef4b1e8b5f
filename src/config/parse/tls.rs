//! Certificates and their keys.

use std::path::PathBuf;

use toml::Spanned;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::TlsTable;
use crate::tls::{CertifiedKey, CertifiedKeyError};

impl Loader<'_> {
    pub(super) fn identity(
        &self,
        key: &str,
        own: Option<&TlsTable>,
        shared: Option<&TlsTable>,
    ) -> Result<CertifiedKey, ConfigError> {
        let (key, table) =
            match (own, shared) {
                (Some(own), _) => (key, own),
                (None, Some(shared)) => ("tls", shared),
                (None, None) => return Err(self.source.missing(
                    "tls",
                    "add a [tls] table with `certificate` and `private_key`: the server certificate that clients see",
                )),
            };
        self.pair(
            (&format!("{key}.certificate"), &table.certificate),
            (&format!("{key}.private_key"), &table.private_key),
        )
    }

    /// Loads a certificate and its key. An error refers to the key that caused it.
    pub(super) fn pair(
        &self,
        certificate: (&str, &Spanned<PathBuf>),
        private_key: (&str, &Spanned<PathBuf>),
    ) -> Result<CertifiedKey, ConfigError> {
        let [chain_file, key_file] = [certificate, private_key].map(|(_, path)| self.source.resolve(path.get_ref()));
        CertifiedKey::load(&chain_file, &key_file).map_err(|error| {
            let (key, path) = match error {
                CertifiedKeyError::Certificate(_) => certificate,
                CertifiedKeyError::PrivateKey(_) => private_key,
            };
            self.source.wrong(key, path.span(), error.to_string())
        })
    }
}
