//! The choice of the server name and the certificate that clients see.

use std::fs;
use std::path::{Path, PathBuf};

use edge::tls::CertifiedKey;

use super::error::InitError;
use super::keypair::Pair;
use super::options::Options;
use super::prompt::Prompter;

/// The files for the `[tls]` table.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
    /// The pair to create and the name in its certificate; `None` if the files exist.
    made_for: Option<(Pair, String)>,
}

impl Site {
    /// Chooses the files given on the command line, else certbot's, else a pair to be created.
    pub(super) fn find(options: &Options, folder: &Path, questions: &Prompter) -> Result<Self, InitError> {
        if let Some(name) = &options.name
            && !is_server_name(name)
        {
            return Err(InitError::ServerName(name.clone()));
        }
        if let (Some(certificate), Some(private_key)) = (&options.certificate, &options.private_key) {
            CertifiedKey::load(certificate, private_key).map_err(|source| InitError::CertifiedKey { source })?;
            return Ok(Self {
                certificate: absolute(certificate),
                private_key: absolute(private_key),
                made_for: None,
            });
        }
        if let Some(state) = certbots(options) {
            let question = format!("Use certbot's certificate in {}?", state.display());
            if questions.yes_or_no(&question)? {
                return Ok(Self {
                    certificate: state.join("fullchain.pem"),
                    private_key: state.join("privkey.pem"),
                    made_for: None,
                });
            }
        }
        let name = match &options.name {
            Some(name) => name.clone(),
            None => {
                let question = "DNS name of this server, as clients use it:";
                questions.text(question, &own_name(), is_server_name)?
            }
        };
        if !is_server_name(&name) {
            return Err(InitError::ServerName(name));
        }
        let pair = Pair::at(folder, "server");
        Ok(Self {
            certificate: pair.certificate.clone(),
            private_key: pair.key.clone(),
            made_for: Some((pair, name)),
        })
    }

    /// Returns the pair to create, and the name in its certificate.
    pub(super) fn to_make(&self) -> Option<(&Pair, &str)> {
        self.made_for.as_ref().map(|(pair, name)| (pair, name.as_str()))
    }
}

/// Returns certbot's folder for the given name, or the only one there is.
fn certbots(options: &Options) -> Option<PathBuf> {
    let is_one = |folder: &PathBuf| folder.join("fullchain.pem").exists() && folder.join("privkey.pem").exists();
    if let Some(name) = &options.name {
        return Some(options.letsencrypt.join(name)).filter(is_one);
    }
    let folders = fs::read_dir(&options.letsencrypt).ok()?;
    let mut found = folders.filter_map(|entry| Some(entry.ok()?.path())).filter(is_one);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Returns whether `name` is a DNS name without a wildcard. Incus clients send a certificate's first name as SNI, which must
/// be a DNS name (RFC 6066, section 3).
fn is_server_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !is_number
}

/// Returns the host name of this machine, or `localhost`.
fn own_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        name if is_server_name(name) => name.to_owned(),
        _ => "localhost".to_owned(),
    }
}

/// Returns the absolute path: relative paths in the configuration start at its own folder, not at the current one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::is_server_name;

    #[test]
    fn only_host_names_are_server_names() {
        for name in ["localhost", "lxc.example.org", "a-1.b", "xn--bcher-kva.example"] {
            assert!(is_server_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "*.example.org",
            "192.0.2.1",
            "::1",
            "-a.b",
            "a_b",
            "a b",
            "a.b.",
        ] {
            assert!(!is_server_name(name), "{name}");
        }
    }
}
