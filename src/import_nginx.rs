//! `incus-gate import-nginx`: translates the configuration of an Nginx in front of Incus into an equivalent `proxy.toml`.
//!
//! `lexer` and `tree` parse Nginx's grammar and keep the file and line of each directive. `site` and `roles` find the
//! locations that lead to Incus; `listen`, `target` and `clients` interpret them; `access`, `conditions` and `restrictions`
//! interpret what denied access; `meaning` combines the results into a `proxy`. `fate` and `account` ensure that no directive
//! is dropped silently. `better` and `steps` complete the `report`.

mod access;
mod account;
mod better;
mod clients;
mod conditions;
mod fate;
mod lexer;
mod listen;
mod meaning;
mod proxy;
mod report;
mod restrictions;
mod roles;
mod site;
mod steps;
mod target;
mod tree;
mod units;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::meaning::Machine;
pub use self::report::Outcome;
use crate::config;

/// The reason why the import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is not valid Nginx configuration.
    #[error("{place}: {problem}; `nginx -t` says whether Nginx takes it")]
    Malformed {
        /// `file:line`
        place: String,
        /// The problem.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}{}: {source}; give the nginx.conf that Nginx itself reads, as root", path.display(), named.as_ref().map(|named| format!(", which {named} includes (relative names start at the folder of nginx.conf)")).unwrap_or_default())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The place of the `include` that names the file.
        named: Option<String>,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The output file cannot be written.
    #[error("cannot write {}: {source}; {}", path.display(), if source.kind() == io::ErrorKind::AlreadyExists { "nothing is overwritten, name another file" } else { "name another file with --output, or be root" })]
    Unwritable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// The result of translating an Nginx configuration.
#[derive(Debug)]
pub struct Translation {
    /// Returns the text of `proxy.toml`.
    pub config: String,
    /// The report for the administrator.
    pub report: String,
    /// Whether the configuration is complete.
    pub outcome: Outcome,
}

/// What is known about Incus besides Nginx's configuration.
#[derive(Debug, Default)]
pub struct Incus {
    /// The folder of Incus on this machine.
    pub folder: PathBuf,
    /// `https://HOST:PORT`, for a configuration that does not show which `proxy_pass` leads to Incus.
    pub url: Option<String>,
}

/// Parses the URL of Incus. The scheme, the port and a trailing slash are optional; the default port is 8443.
pub fn incus_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").unwrap_or(text);
    target::url(authority.strip_suffix('/').unwrap_or(authority), 8443)
}

/// Writes the configuration to `output`, or to stdout, and the report to stderr. `url` is the URL of Incus.
pub fn import(file: &Path, output: Option<&Path>, url: Option<String>) -> Result<Outcome, ImportError> {
    // The same lookup as Incus's own.
    let folder = std::env::var_os("INCUS_DIR").map_or_else(|| "/var/lib/incus".into(), PathBuf::from);
    let translation = translate(file, Incus { folder, url })?;
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

/// Translates the file and all files that it includes.
pub fn translate(file: &Path, incus: Incus) -> Result<Translation, ImportError> {
    let file = std::path::absolute(file).map_err(|source| ImportError::Unreadable {
        path: file.to_owned(),
        named: None,
        source,
    })?;
    let tree = tree::read(&file)?;
    let main = tree::prefix(&file).join("nginx.conf");
    let main = match main != file && main.is_file() {
        true => tree::read(&main)?,
        false => Vec::new(),
    };
    let machine = Machine {
        prefix: tree::prefix(&file),
        incus,
    };
    let (proxy, report, outcome) = meaning::translate(&tree, &main, &file, &machine);
    Ok(Translation {
        config: proxy.to_string(),
        report: report.to_string(),
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the configuration that results from a file with this text.
    fn translated(text: &[u8]) -> Result<String, ImportError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).expect("written");
        let incus = Incus {
            folder: folder.path().to_owned(),
            url: None,
        };
        translate(&file, incus).map(|translation| translation.config)
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = translated(&bytes);
        }

        #[test]
        fn whatever_comes_out_is_toml(text in "((server|location|if|map|upstream|http) ?(/1.0|\\(\\$ssl_client_s_dn = a\\)|a \\$b|inc)? ?\\{|\\}|listen (8554|\\[::\\]:1|unix:/a) ssl;|ssl_verify_client (on|optional);|proxy_pass https://(inc|\\$b|127.0.0.1:1|a/b);|(ssl_certificate|ssl_certificate_key|proxy_ssl_certificate|ssl_client_certificate) (a|\"b\\\\n\\[c\\]\"|\\$d);|server (a|1.2.3.4:5|\\[::1\\]) (backup)?;|allow [0-9.]{1,4};|include [a-z*/]{1,3};|return (403|200);|[a-z]{1,3} '[^']{0,3}';|\n){0,30}") {
            if let Ok(text) = translated(text.as_bytes()) {
                proptest::prop_assert!(text.parse::<toml::Table>().is_ok(), "{text}");
            }
        }
    }
}
