//! Checks that only inspect the configuration and its files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use edge::listener;
use edge::tls::certificate::{self, Fingerprint, Validity};
use edge::tls::{CertifiedKey, chain};
use rustls::pki_types::CertificateDer;

use super::finding::Finding;
use crate::config::{Config, CredentialMatcher};

const WARN_BELOW: Duration = Duration::from_hours(30 * 24);
/// The permission bits of users other than a file's owner and group.
const OTHERS: u32 = 0o007;

/// Returns every finding, good and bad.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    look_at_servers(&mut findings, config);
    let client = &config.upstream.identity;
    findings.push(dates("upstream.client_certificate", client.certificate()));
    findings.extend(openness("upstream.client_private_key", client.private_key_file()));
    look_at_admins(&mut findings, config);
    findings.push(pin(config));
    for (key, proxies) in [
        ("public.proxy_protocol_from", &config.public.proxies),
        ("admin.proxy_protocol_from", &config.admin.proxies),
    ] {
        if proxies.contain_everybody() {
            let problem =
                "it contains every address, and each listed client can claim any address; list only the proxies";
            findings.push(Finding::warn(key, problem));
        }
    }
    for (key, addresses) in [
        ("public.listen", &config.public.listen),
        ("admin.listen", &config.admin.listen),
        ("metrics.listen", &config.metrics),
    ] {
        let fallbacks = listener::fallbacks(addresses);
        findings.extend(fallbacks.iter().map(|problem| Finding::warn(key, problem)));
    }
    if !config
        .metrics
        .iter()
        .all(|address| address.ip().to_canonical().is_loopback())
    {
        let problem = "it accepts connections from other machines, without authentication; listen on 127.0.0.1, or \
                       allow only the scraper in a firewall";
        findings.push(Finding::warn("metrics.listen", problem));
    }
    findings
}

fn look_at_servers(findings: &mut Vec<Finding>, config: &Config) {
    let (public, admin) = (&config.public.tls, &config.admin.tls);
    // Both ports most likely use the same [tls] table: report it once.
    let ports = match public.is_same(admin) {
        true => vec![("public.tls and admin.tls", public)],
        false => vec![("public.tls", public), ("admin.tls", admin)],
    };
    for (what, identity) in ports {
        findings.push(dates(what, identity.certificate()));
        let faults = chain::faults(identity.chain(), SystemTime::now());
        findings.extend(faults.iter().map(|fault| Finding::warn(what, &fault.to_string())));
        findings.extend(openness(what, identity.private_key_file()));
        findings.extend(first_name(what, identity));
        findings.extend(slowness(what, identity));
    }
}

fn look_at_admins(findings: &mut Vec<Finding>, config: &Config) {
    if config.admin.clients.is_empty() {
        let problem = "no client is listed, so the admin port rejects every client; add one to use the admin port";
        findings.push(Finding::warn("admin.clients", problem));
    }
    for client in &config.admin.clients {
        let what = format!("admin.clients {:?}", client.name);
        findings.push(match &client.known_by {
            CredentialMatcher::Certificate(certificate) => dates(&what, certificate),
            CredentialMatcher::Fingerprint(_) => Finding::ok(
                &what,
                "identified by its fingerprint; its validity is checked when it is presented",
            ),
        });
        if let (CredentialMatcher::Certificate(certificate), 1..) = (&client.known_by, client.others_in_file) {
            let counts = format!(
                "the first certificate of its file is used, SHA-256 {}; the others, its chain, are ignored",
                Fingerprint::of(certificate)
            );
            findings.push(Finding::ok(&what, &counts));
        }
    }
}

fn pin(config: &Config) -> Finding {
    let what = "upstream.server_certificate";
    match config.upstream.pin.path() {
        Some(_) => Finding::ok(what, "pinned, whatever its validity period"),
        None => Finding::warn(
            what,
            &format!(
                "not set: any program that listens at {} on this machine is trusted as Incus; set it to Incus's server.crt",
                config.upstream.url
            ),
        ),
    }
}

fn dates(what: &str, certificate: &CertificateDer<'_>) -> Finding {
    let now = SystemTime::now();
    let validity = match Validity::of(certificate) {
        Ok(validity) => validity,
        Err(error) => return Finding::fail(what, &error.to_string()),
    };
    match validity.time_left(now) {
        None => Finding::fail(what, "the certificate has expired; renew it"),
        Some(_) if validity.is_ahead_of(now) => Finding::fail(
            what,
            "the certificate is not valid yet; check its dates and this machine's clock",
        ),
        Some(left) => {
            let days = left.as_secs() / 86_400;
            match left < WARN_BELOW {
                true => Finding::warn(what, &format!("the certificate expires in {days} days; renew it")),
                false => Finding::ok(what, &format!("the certificate expires in {days} days")),
            }
        }
    }
}

/// Warns if other users have access to a private key. Group access is allowed, because it may be how the gateway's user reads
/// the key.
fn openness(what: &str, private_key: &Path) -> Option<Finding> {
    // The key was readable when it was loaded, so an error here is a race with a change.
    let mode = std::fs::metadata(private_key).ok()?.permissions().mode();
    (mode & OTHERS != 0).then(|| {
        let file = private_key.display();
        let problem = format!(
            "the private key in {file} is accessible to every user of this machine (mode {:04o}); run `chmod o= {file}`",
            mode & 0o7777
        );
        Finding::warn(what, &problem)
    })
}

/// Incus clients that have pinned a certificate use its first name verbatim as the server name.
fn first_name(what: &str, identity: &CertifiedKey) -> Option<Finding> {
    let name = certificate::first_name(identity.certificate())?;
    name.contains('*').then(|| {
        let problem = format!(
            "the certificate's first name is {name}: Incus clients that pinned the certificate send its first name as \
             server name, a wildcard is not a valid one, and each of their requests needs a second connection; put a \
             host name first"
        );
        Finding::warn(what, &problem)
    })
}

/// Measured with full handshakes: RSA with 2048 bits takes three times the CPU time of ECDSA P-256, with 4096 bits twenty
/// times. Incus clients make a handshake for each request.
fn slowness(what: &str, identity: &CertifiedKey) -> Option<Finding> {
    let bits = certificate::rsa_bits(identity.certificate())?;
    let times = if bits > 3072 {
        "about 20 times"
    } else {
        "at least 3 times"
    };
    let problem = format!(
        "the private key is RSA with {bits} bits: a handshake takes {times} the CPU time of ECDSA P-256, and Incus \
         clients make one for each request; get a certificate for an ECDSA P-256 key (certbot: --key-type ecdsa)"
    );
    Some(Finding::warn(what, &problem))
}
