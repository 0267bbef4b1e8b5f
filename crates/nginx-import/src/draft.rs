//! The result under construction: the configuration and the report.

use std::path::Path;

use crate::certificate_file::resolve;
use crate::options::Options;
use crate::output::{KeyPair, ProxyConfig};
use crate::report::Report;
use crate::scope::Scope;
use crate::sourced::Sourced;

/// The configuration and the report, and what their translation depends on besides Nginx's directives.
pub(crate) struct Draft<'a> {
    pub(crate) options: Options<'a>,
    /// Nginx's configuration prefix, the base of relative paths.
    pub(crate) prefix: &'a Path,
    pub(crate) config: ProxyConfig,
    pub(crate) report: Report,
}

impl<'a> Draft<'a> {
    /// Creates an empty draft for a file.
    pub(crate) fn new(file: &Path, prefix: &'a Path, options: Options<'a>) -> Self {
        let shown_prefix = prefix.display().to_string();
        Self {
            options,
            prefix,
            config: ProxyConfig {
                source_file: file.display().to_string(),
                prefix: shown_prefix.clone(),
                ..ProxyConfig::default()
            },
            report: Report::new(shown_prefix),
        }
    }

    /// Returns the files of a certificate and its key, which the two directives name. Reports a value that names no file.
    pub(crate) fn key_pair(&mut self, scope: &Scope<'_>, names: [&str; 2]) -> Option<KeyPair> {
        let [certificate, key] = names.map(|name| {
            let directive = scope.first(name)?;
            match resolve(self.prefix, directive) {
                Ok(path) => Some(Sourced::new(path, &directive.position)),
                Err(problem) => {
                    self.report.missing(problem);
                    None
                }
            }
        });
        let (certificate, key) = (certificate?, key?);
        Some(KeyPair { certificate, key })
    }
}
