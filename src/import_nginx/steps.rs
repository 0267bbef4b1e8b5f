//! What there is to do, in its order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::meaning::extent;
use super::proxy::Proxy;
use super::report::Report;
use super::roles::Parts;
use super::site::Server;
use crate::net::Port;

pub(super) fn say(parts: &Parts<'_>, proxy: &Proxy, report: &mut Report) {
    if parts.incus.is_empty() {
        report.next("Run this again on the file that leads to Incus.".to_owned());
        return;
    }
    shared_ports(parts, proxy, report);
    if !report.is_complete() {
        report.next("Fill in what is MISSING, above and in the written file.".to_owned());
    }
    report.next("Put the file at /etc/incus-gate/proxy.toml.".to_owned());
    sockets(proxy, report);
    keys(proxy, report);
    report.next("`incus-gate check --config /etc/incus-gate/proxy.toml`. While Nginx runs, it warns that the ports are in use; all else should be ok.".to_owned());
    let mut blocks: Vec<_> = parts.incus.iter().map(|part| extent(part.server.directive)).collect();
    blocks.extend(parts.target.iter().filter_map(|target| target.upstream).map(extent));
    report.next(format!(
        "Take these blocks out of Nginx, and keep a copy to go back to: {}.",
        blocks.join(", ")
    ));
    let is_alone = parts.others.is_empty();
    report.next(format!(
        "`nginx -t && systemctl reload nginx`, which frees the ports{}; then at once `systemctl enable --now incus-gate`.",
        if is_alone { " (or `systemctl disable --now nginx`, if it serves nothing else)" } else { "" }
    ));
    report.next("To go back: `systemctl disable --now incus-gate incus-gate.socket`, put the blocks back, `nginx -t && systemctl reload nginx`.".to_owned());
}

/// What systemd hands over must be what the file says, or the gateway does not start.
fn sockets(proxy: &Proxy, report: &mut Report) {
    let listens = [proxy.public.addresses(Port::Public), proxy.admin.addresses(Port::Admin)];
    let units = [Port::Public, Port::Admin].map(|port| port.usual_address().to_string());
    if listens == units.each_ref().map(|address| vec![address.clone()]) {
        return;
    }
    let listens = listens.concat();
    let the = match proxy.public.is_held_back || proxy.admin.is_held_back {
        true => "Once `listen` is decided: the",
        false => "The",
    };
    // Nginx's `listen 8554` is IPv4 alone. Whether IPv6 is welcome is not ours to say.
    let is_v4 = listens.iter().any(|address| address.starts_with("0.0.0.0:"));
    report.next(format!(
        "{the} units of systemd hold {}: name {} in the socket's, or do without it (see \"Other ports\" in docs/OPERATING.md).{}",
        units.join(" and "),
        listens.join(" and "),
        if is_v4 { " `[::]` in place of `0.0.0.0` in the file is IPv4 and IPv6." } else { "" }
    ));
}

/// The gateway has a user of its own, and systemd shows it no homes.
fn keys(proxy: &Proxy, report: &mut Report) {
    let pairs = [&proxy.identity, &proxy.public.tls, &proxy.admin.tls];
    let pairs = || pairs.into_iter().flatten();
    let at_home = |path: &&Path| path.starts_with("/home") || path.starts_with("/root");
    let unique = |paths: Vec<&Path>| {
        let paths: BTreeSet<_> = paths.iter().map(|path| path.display().to_string()).collect();
        paths.into_iter().collect::<Vec<_>>().join(" ")
    };
    let files = pairs()
        .flat_map(|pair| [&pair.certificate.value, &pair.key.value])
        .map(PathBuf::as_path);
    let homely = unique(files.filter(at_home).collect());
    if !homely.is_empty() {
        report.next(format!(
            "systemd shows the gateway nothing of /home and /root: `install -D -g incus-gate -m 640 -t /etc/incus-gate/certs {homely}`, and change the paths in the file."
        ));
    }
    let keys = pairs().map(|pair| pair.key.value.as_path());
    let keys = unique(keys.filter(|path| !at_home(path)).collect());
    if !keys.is_empty() {
        report.next(format!(
            "Let the gateway's user read {keys}: `chgrp incus-gate` and `chmod 640`, for Certbot's as in \"Who may read the keys\" in docs/OPERATING.md."
        ));
    }
}

/// A port is one program's.
fn shared_ports(parts: &Parts<'_>, proxy: &Proxy, report: &mut Report) {
    for listen in proxy.public.listen.iter().chain(&proxy.admin.listen) {
        let Ok(address) = listen.value.parse::<SocketAddr>() else {
            continue;
        };
        let is_same = |other: &SocketAddr| {
            let anywhere = address.ip().is_unspecified() || other.ip().is_unspecified();
            other.port() == address.port() && (anywhere || other.ip() == address.ip())
        };
        let has_it = |server: &&Server<'_>| {
            server
                .listens
                .iter()
                .filter_map(|listen| listen.address)
                .any(|other| is_same(&other))
        };
        if let Some(other) = parts.others.iter().find(has_it) {
            report.missing(format!(
                "{}: port {} is also another server's ({}), which stays with Nginx, and a port is one program's: choose another one for the gateway, or give it an address of its own",
                listen.comment,
                address.port(),
                other.directive.place
            ));
        }
    }
}
