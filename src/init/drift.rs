//! Differences between the command line, the local Incus and an existing configuration. The configuration is never
//! overwritten, so the differences are reported.

use std::path::Path;

use edge::tls::read_certificate;
use edge::tls::upstream::Pin;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;

use super::incus::Incus;
use super::options::Options;
use super::progress::ProgressLog;
use crate::config::{Config, default_listen};

/// Reports each difference.
pub(super) fn report(options: &Options, config: &Config, incus: &Incus, done: &mut ProgressLog) {
    let file = options.config.display();
    for option in unheeded(options, config) {
        done.note(format!(
            "{option} differs from {file}, which is not overwritten; change it there"
        ));
    }
    // An unreachable Incus is reported when the certificate is added to its trust store.
    let Ok(server) = incus.server() else { return };
    let upstream = &config.upstream;
    // If the configured Incus is remote, the local one is unrelated.
    if Pin::none_on_loopback(&upstream.host).is_none() {
        return;
    }
    if let Some(url) = server
        .url()
        .filter(|url| !url.ends_with(&format!(":{}", upstream.port)))
    {
        done.note(format!(
            "Incus listens on {url}, but upstream.url in {file} is {}; change it there",
            upstream.url
        ));
    }
    if let (None, Some(certificate)) = (upstream.pin.path(), incus.pin(server.is_cluster)) {
        let certificate = certificate.display();
        done.note(format!(
            "{file} does not authenticate Incus; set `server_certificate = \"{certificate}\"` in [upstream]"
        ));
    }
}

/// Returns the options that would have produced a different configuration.
fn unheeded(options: &Options, config: &Config) -> Vec<String> {
    let shown = config.public.tls.certificate();
    let is_for = |name: &String| {
        let name = ServerName::try_from(name.as_str());
        let certificate = ParsedCertificate::try_from(shown);
        matches!((name, certificate), (Ok(name), Ok(certificate)) if verify_server_name(&certificate, &name).is_ok())
    };
    let is_shown = |path: &Path| read_certificate(path).is_ok_and(|certificate| certificate == *shown);
    let is_listening = |usual, address, listen: &[_]| address == usual || listen.contains(&address);
    let name = options.name.iter().filter(|name| !is_for(name));
    let certificate = options.certificate.iter().filter(|path| !is_shown(path));
    let public =
        Some(options.public).filter(|address| !is_listening(default_listen::PUBLIC, *address, &config.public.listen));
    let admin =
        Some(options.admin).filter(|address| !is_listening(default_listen::ADMIN, *address, &config.admin.listen));
    name.map(|name| format!("--name {name}"))
        .chain(certificate.map(|path| format!("--certificate {}", path.display())))
        .chain(public.map(|address| format!("--public {address}")))
        .chain(admin.map(|address| format!("--admin-listen {address}")))
        .collect()
}
