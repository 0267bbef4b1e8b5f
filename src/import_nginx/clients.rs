//! The clients that Nginx admitted on the admin port: from the certificates it trusts to the entries of `[[admin.clients]]`.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::HEXLOWER;
use edge::tls::certificate::{self, Fingerprint};
use edge::tls::read_chain;
use rustls::pki_types::CertificateDer;

use super::conditions::Demands;
use super::proxy::Client;
use super::report::Report;
use super::tree::{Directive, Place};

/// The certificates of a file as a list of administrators with unique names.
pub(super) struct Listed {
    pub(super) clients: Vec<Client>,
    pub(super) is_certain: bool,
    /// Whether some of the certificates can sign others.
    pub(super) have_authority: bool,
    /// All buckets.
    pub(super) fingerprints: HashSet<String>,
}

pub(super) fn list(file: &Path, place: &Place, demands: &Demands<'_>, report: &mut Report) -> Listed {
    let mut listed = Listed {
        clients: Vec::new(),
        is_certain: demands.other.is_empty(),
        have_authority: false,
        fingerprints: HashSet::new(),
    };
    let chain = match read_chain(file) {
        Ok(chain) => chain,
        Err(error) => {
            report.missing(format!(
                "{place}: who the admins are: {error}. Or list them in [[admin.clients]] by hand"
            ));
            Vec::new()
        }
    };
    let mut names = HashSet::new();
    let mut wanted: Vec<&str> = demands.fingerprints.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let asks_for_fingerprint = !wanted.is_empty();
    for (number, certificate) in (1..).zip(&chain) {
        let fingerprint = Fingerprint::of(certificate).to_string();
        if !listed.fingerprints.insert(fingerprint.clone()) {
            continue;
        }
        let (Ok(subject), Ok(is_authority)) = (
            certificate::subject(certificate),
            certificate::is_authority(certificate),
        ) else {
            report.missing(format!(
                "{place}: certificate {number} in {} cannot be read",
                file.display()
            ));
            continue;
        };
        let sha1 = sha1(certificate);
        if asks_for_fingerprint && !wanted.contains(&sha1.as_str()) {
            continue;
        }
        wanted.retain(|wanted| *wanted != sha1);
        listed.have_authority |= is_authority;
        let common_name = certificate::common_name(certificate).ok().flatten();
        listed.clients.push(Client {
            name: unique(&mut names, common_name.as_deref().unwrap_or_default()),
            fingerprint: Some(fingerprint),
            comment: format!("{place}: {subject}"),
        });
    }
    for sha1 in wanted {
        listed.is_certain = false;
        listed.clients.push(Client {
            name: unique(&mut names, "admin"),
            fingerprint: None,
            comment: format!("the certificate whose SHA-1 is {sha1}"),
        });
    }
    listed
}

/// Computes Nginx's `$ssl_client_fingerprint`. It is only used to find certificates that Nginx lists by SHA-1; no access
/// decision depends on it.
fn sha1(certificate: &CertificateDer<'_>) -> String {
    HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref())
}

/// Returns a unique name that the configuration accepts, based on the certificate's common name.
fn unique(taken: &mut HashSet<String>, common_name: &str) -> String {
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

/// The maximum size of a file of certificates, in bytes. Thousands of certificates fit.
const LONGEST: u64 = 8 << 20;

/// Returns the path of the certificate or key file that a directive names.
pub(super) fn absolute(prefix: &Path, directive: &Directive) -> Result<PathBuf, String> {
    let value = directive.value();
    let is_elsewhere = ["data:", "engine:", "store:", "provider:"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    if is_elsewhere || value.contains('$') || value.is_empty() {
        return Err(format!(
            "{}: `{} {value}` names no file",
            directive.place, directive.name
        ));
    }
    let path = prefix.join(value);
    match std::fs::metadata(&path) {
        // A named pipe could block, and a device could be endless.
        Ok(found) if !found.is_file() || found.len() > LONGEST => Err(format!(
            "{}: {} is no file of certificates",
            directive.place,
            path.display()
        )),
        // A missing file may be created later.
        _ => Ok(path),
    }
}
