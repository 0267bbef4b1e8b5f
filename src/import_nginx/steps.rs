//! The remaining steps of a migration, in order.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::account::together;
use super::listen::Listen;
use super::meaning::extent;
use super::proxy::{Proxy, collide};
use super::report::Report;
use super::roles::{Part, Parts};
use super::site::{Server, is_refusal};
use super::tree::Directive;
use crate::port::Port;

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
    blocks(parts, proxy, report);
    let is_alone =
        parts.others.iter().all(|other| is_moot(other)) && parts.incus.iter().all(|part| own_answers(part).is_empty());
    report.next(format!(
        "`nginx -t && systemctl reload nginx`, which frees the ports{}; then at once `systemctl enable --now incus-gate`.",
        if is_alone { " (or `systemctl disable --now nginx`, if it serves nothing else)" } else { "" }
    ));
    report.next("To go back: `systemctl disable --now incus-gate incus-gate.socket`, put the blocks back, `nginx -t && systemctl reload nginx`.".to_owned());
}

/// Lists the blocks to remove from Nginx. A block that serves more than Incus stays in part.
fn blocks(parts: &Parts<'_>, proxy: &Proxy, report: &mut Report) {
    let has_more = |part: &&Part<'_>| {
        !own_answers(part).is_empty()
            || part
                .server
                .listens
                .iter()
                .any(|listen| !listen.is_tls && !listen.is_quic)
    };
    let (mixed, whole): (Vec<_>, Vec<_>) = parts.incus.iter().partition(has_more);
    let mut blocks: Vec<_> = whole.iter().map(|part| extent(part.server.directive)).collect();
    let gateways = [proxy.public.addresses(), proxy.admin.addresses()].concat();
    for other in parts.others.iter().filter(|other| is_moot(other)) {
        let is_gateways = |listen: &Listen<'_>| {
            let mut ours = gateways.iter();
            ours.any(|ours| listen.address.is_some_and(|address| collide(*ours, address)))
        };
        let (taken, left): (Vec<_>, Vec<_>) = other.listens.iter().partition(|listen| is_gateways(listen));
        let extent = extent(other.directive);
        match (taken.is_empty(), left.is_empty()) {
            (true, _) => {}
            (false, true) => blocks.push(extent),
            (false, false) => blocks.push(format!("the `listen` of {extent} on ports of the gateway's")),
        }
    }
    blocks.extend(parts.target.iter().filter_map(|target| target.upstream).map(extent));
    if !blocks.is_empty() {
        report.next(format!(
            "Take these blocks out of Nginx, and keep a copy to go back to: {}.",
            blocks.join(", ")
        ));
    }
    for part in mixed {
        let locations = part.routes().map(|route| route.location().unwrap_or(route.pass));
        report.next(format!(
            "It serves more than Incus, so leave in {} all but its locations that lead to Incus ({}) and its `listen` on ports of the gateway's; keep a copy to go back to.",
            extent(part.server.directive),
            together(locations)
        ));
    }
}

/// Returns what a server serves besides Incus: its own locations, or files.
fn own_answers<'a>(part: &Part<'a>) -> Vec<&'a Directive> {
    let children = part.server.directive.children();
    let locations = || children.iter().filter(|child| child.is("location"));
    let leads_on = |location: &&Directive| part.routes().any(|route| route.is_in(location));
    let is_closed = |location: &&Directive| {
        location.value().starts_with('@') || location.children().iter().any(|child| child.is("internal"))
    };
    let own = locations().filter(|location| !leads_on(location) && !is_closed(location) && !is_refusal(location));
    // `location /` catches every request that would otherwise be served from `root`.
    let has_rest = locations().any(|location| location.arguments.concat() == "/");
    let files = children.iter().filter(|child| !has_rest && child.is("root"));
    own.chain(files).collect()
}

/// Returns whether a server only rejects requests for other names, like the catch-all server of a configuration.
fn is_moot(server: &Server<'_>) -> bool {
    let mut children = server.directive.children().iter();
    let refuses = children.any(|child| child.is("return") && child.value().starts_with('4'))
        || server.scope.value("ssl_reject_handshake") == Some("on");
    refuses && server.routes.is_empty()
}

/// Explains how to adapt the socket unit. If systemd's sockets do not match the configuration, the gateway does not start.
fn sockets(proxy: &Proxy, report: &mut Report) {
    let listens = [proxy.public.addresses(), proxy.admin.addresses()];
    let units = [Port::Public, Port::Admin].map(Port::usual_address);
    if listens == units.map(|address| vec![address]) {
        return;
    }
    let text = |addresses: &[SocketAddr]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and ")
    };
    let listens = listens.concat();
    let the = match proxy.public.is_held_back || proxy.admin.is_held_back {
        true => "Once `listen` is decided: the",
        false => "The",
    };
    // Nginx's `listen 8554` is IPv4 only. Whether to add IPv6 is the administrator's decision.
    let is_v4 = listens.iter().any(|address| address.ip() == Ipv4Addr::UNSPECIFIED);
    report.next(format!(
        "{the} units of systemd hold {}: name {} in the socket's, or do without it (see \"Other ports\" in docs/OPERATING.md).{}",
        text(&units),
        text(&listens),
        if is_v4 { " `[::]` in place of `0.0.0.0` in the file is IPv4 and IPv6." } else { "" }
    ));
}

/// Explains how to give the gateway access to its keys: it runs as its own user, and systemd hides /home and /root.
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

/// Reports ports that Nginx would still need. Two programs cannot share a port.
fn shared_ports(parts: &Parts<'_>, proxy: &Proxy, report: &mut Report) {
    // Certbot's challenges and the like can move to another port; a website cannot.
    let is_site = |directive: &&Directive| {
        let pattern = directive.arguments.last().map_or("", String::as_str);
        let is_minor = ["/.", "/favicon.ico", "/robots.txt"]
            .iter()
            .any(|path| pattern.starts_with(path));
        directive.is("root") || !is_minor && !directive.children().iter().any(|child| child.is("return"))
    };
    for listen in proxy.public.listen.iter().chain(&proxy.admin.listen) {
        let has_it = |server: &Server<'_>| {
            let mut addresses = server.listens.iter().filter_map(|listen| listen.address);
            addresses.any(|other| collide(listen.value, other))
        };
        let choose = "a port is one program's: choose another one for the gateway, or give it an address of its own";
        let (comment, port) = (&listen.comment, listen.value.port());
        for other in parts.others.iter().filter(|other| has_it(other)) {
            let place = &other.directive.place;
            match is_moot(other) {
                true => report.lost(format!(
                    "{place}: this server refuses whoever asks for another name on port {port}; the gateway answers by whatever name it is asked"
                )),
                false => report.missing(format!(
                    "{comment}: port {port} is also another server's ({place}), which stays with Nginx, and {choose}"
                )),
            }
        }
        for part in parts.incus.iter().filter(|part| has_it(&part.server)) {
            let sites: Vec<_> = own_answers(part).into_iter().filter(is_site).collect();
            if !sites.is_empty() {
                report.missing(format!(
                    "{comment}: port {port} also serves what is not Incus's ({}), and {choose}",
                    together(sites.into_iter())
                ));
            }
        }
    }
}
