//! The clients that Nginx admitted on the admin port: from the certificates it trusts to the entries of `[[admin.clients]]`.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use crate::certificate_conditions::CertificateRequirements;
use crate::directive::Position;
use crate::options::{Certificate, CertificateReader};
use crate::output::AdminClient;
use crate::report::Report;

/// The certificates of a file as a list of administrators with unique names.
pub(crate) struct ClientList {
    pub(crate) clients: Vec<AdminClient>,
    /// Whether exactly these clients had access.
    pub(crate) is_exact: bool,
    /// Whether some of the certificates can sign others.
    pub(crate) have_authority: bool,
    /// The SHA-256 fingerprints of all certificates of the file.
    pub(crate) fingerprints: HashSet<String>,
}

/// Reads the clients that the certificates of `file` admit, if they meet the requirements. `position` is that of the directive
/// that names the file.
pub(crate) fn read(
    file: &Path,
    position: &Position,
    reader: &dyn CertificateReader,
    requirements: &CertificateRequirements<'_>,
    report: &mut Report,
) -> ClientList {
    let mut list = ClientList {
        clients: Vec::new(),
        is_exact: requirements.unsupported.is_empty(),
        have_authority: false,
        fingerprints: HashSet::new(),
    };
    let certificates = match reader.read_all(file) {
        Ok(certificates) => certificates,
        Err(error) => {
            report.missing(format!(
                "{position}: the admins' certificates: {error}. Or list them in [[admin.clients]] by hand"
            ));
            Vec::new()
        }
    };
    let mut names = HashSet::new();
    let mut wanted: Vec<&str> = requirements.fingerprints.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let has_fingerprints = !wanted.is_empty();
    for (number, certificate) in (1..).zip(certificates) {
        let Certificate { sha256, sha1, fields } = certificate;
        if !list.fingerprints.insert(sha256.clone()) {
            continue;
        }
        let Some(fields) = fields else {
            report.missing(format!(
                "{position}: certificate {number} in {} cannot be read",
                file.display()
            ));
            continue;
        };
        if has_fingerprints && !wanted.contains(&sha1.as_str()) {
            continue;
        }
        wanted.retain(|wanted| *wanted != sha1);
        list.have_authority |= fields.is_authority;
        list.clients.push(AdminClient {
            name: unique_name(&mut names, fields.common_name.as_deref().unwrap_or_default()),
            fingerprint: Some(sha256),
            comment: format!("{position}: {}", fields.subject),
        });
    }
    for sha1 in wanted {
        list.is_exact = false;
        list.clients.push(AdminClient {
            name: unique_name(&mut names, "admin"),
            fingerprint: None,
            comment: format!("the certificate whose SHA-1 is {sha1}"),
        });
    }
    list
}

/// Returns a unique name that the configuration accepts, based on the certificate's common name.
fn unique_name(taken: &mut HashSet<String>, common_name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    let name: String = common_name
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .take(56)
        .collect();
    let base = match name.trim_matches('-') {
        "" => "admin".to_owned(),
        name => name.to_owned(),
    };
    let mut name = base.clone();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        name = base.clone();
        let _ = write!(name, "-{number}");
    }
    name
}
