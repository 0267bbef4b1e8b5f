//! The remaining steps of a migration, in order.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::classify::{IncusServer, Servers};
use crate::directive::{Directive, positions_of};
use crate::listen::Listen;
use crate::locations::{Server, is_rejection};
use crate::options::Options;
use crate::output::{ProxyConfig, overlap};
use crate::port::Port;
use crate::report::Report;

/// Adds all steps to the report.
pub(crate) fn report_all(servers: &Servers<'_>, config: &ProxyConfig, options: &Options<'_>, report: &mut Report) {
    if servers.incus.is_empty() {
        report.step("Run this again on the file that leads to Incus.".to_owned());
        return;
    }
    shared_ports(servers, config, report);
    if !report.is_complete() {
        report.step("Fill in what is MISSING, above and in the written file.".to_owned());
    }
    report.step("Put the file at /etc/incus-gate/proxy.toml.".to_owned());
    socket_units(config, options, report);
    keys(config, report);
    report.step("`incus-gate check --config /etc/incus-gate/proxy.toml`. While Nginx runs, it warns that the ports are in use; all else should be ok.".to_owned());
    blocks(servers, config, report);
    let is_alone = servers.others.iter().all(|other| only_rejects(other))
        && servers
            .incus
            .iter()
            .all(|incus_server| other_content(incus_server).is_empty());
    report.step(format!(
        "`nginx -t && systemctl reload nginx`, which frees the ports{}; then at once `systemctl enable --now incus-gate`.",
        if is_alone { " (or `systemctl disable --now nginx`, if it serves nothing else)" } else { "" }
    ));
    report.step("To go back: `systemctl disable --now incus-gate incus-gate.socket`, put the blocks back, `nginx -t && systemctl reload nginx`.".to_owned());
}

/// Lists the blocks to remove from Nginx. A block that serves more than Incus stays in part.
fn blocks(servers: &Servers<'_>, config: &ProxyConfig, report: &mut Report) {
    let serves_more = |incus_server: &&IncusServer<'_>| {
        !other_content(incus_server).is_empty()
            || incus_server
                .server
                .listens
                .iter()
                .any(|listen| !listen.is_tls && !listen.is_quic)
    };
    let (mixed, whole): (Vec<_>, Vec<_>) = servers.incus.iter().partition(serves_more);
    let mut blocks: Vec<_> = whole
        .iter()
        .map(|incus_server| incus_server.server.directive.line_range())
        .collect();
    let gateways = [config.public.addresses(), config.admin.addresses()].concat();
    for other in servers.others.iter().filter(|other| only_rejects(other)) {
        let is_on_gateway_port = |listen: &Listen<'_>| {
            let mut ours = gateways.iter();
            ours.any(|ours| listen.address.is_some_and(|address| overlap(*ours, address)))
        };
        let (removed, kept): (Vec<_>, Vec<_>) = other.listens.iter().partition(|listen| is_on_gateway_port(listen));
        let line_range = other.directive.line_range();
        match (removed.is_empty(), kept.is_empty()) {
            (true, _) => {}
            (false, true) => blocks.push(line_range),
            (false, false) => blocks.push(format!("the `listen` of {line_range} on the gateway's ports")),
        }
    }
    blocks.extend(
        servers
            .target
            .iter()
            .filter_map(|target| target.upstream)
            .map(Directive::line_range),
    );
    if !blocks.is_empty() {
        report.step(format!(
            "Remove these blocks from Nginx, and keep a copy to go back to: {}.",
            blocks.join(", ")
        ));
    }
    for incus_server in mixed {
        let locations = incus_server
            .routes()
            .map(|route| route.location().unwrap_or(route.pass));
        report.step(format!(
            "In {}, which also serves other content, remove only the locations that lead to Incus ({}) and the `listen` on the gateway's ports; keep a copy to go back to.",
            incus_server.server.directive.line_range(),
            positions_of(locations)
        ));
    }
}

/// Returns what a server serves besides Incus: its own locations, or files.
fn other_content<'a>(incus_server: &IncusServer<'a>) -> Vec<&'a Directive> {
    let children = incus_server.server.directive.children();
    let locations = || children.iter().filter(|child| child.is("location"));
    let leads_to_incus = |location: &&Directive| incus_server.routes().any(|route| route.is_inside(location));
    let is_closed = |location: &&Directive| {
        location.value().starts_with('@') || location.children().iter().any(|child| child.is("internal"))
    };
    let own =
        locations().filter(|location| !leads_to_incus(location) && !is_closed(location) && !is_rejection(location));
    // `location /` catches every request that would otherwise be served from `root`.
    let has_rest = locations().any(|location| location.arguments.concat() == "/");
    let files = children.iter().filter(|child| !has_rest && child.is("root"));
    own.chain(files).collect()
}

/// Returns whether a server only rejects requests for other names, like the catch-all server of a configuration.
fn only_rejects(server: &Server<'_>) -> bool {
    let mut children = server.directive.children().iter();
    let rejects = children.any(|child| child.is("return") && child.value().starts_with('4'))
        || server.scope.value("ssl_reject_handshake") == Some("on");
    rejects && server.routes.is_empty()
}

/// Explains how to adapt the socket unit. If systemd's sockets do not match the configuration, the gateway does not start.
fn socket_units(config: &ProxyConfig, options: &Options<'_>, report: &mut Report) {
    let listens = [config.public.addresses(), config.admin.addresses()];
    let units = [Port::Public, Port::Admin].map(|port| options.default_address(port));
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
    let start = match config.public.is_held_back || config.admin.is_held_back {
        true => "Once `listen` is decided: the",
        false => "The",
    };
    // Nginx's `listen 8554` is IPv4 only. Whether to add IPv6 is the administrator's decision.
    let is_v4 = listens.iter().any(|address| address.ip() == Ipv4Addr::UNSPECIFIED);
    report.step(format!(
        "{start} systemd units listen on {}: set {} in the socket unit, or do without it (see \"Other ports\" in docs/OPERATING.md).{}",
        text(&units),
        text(&listens),
        if is_v4 { " `[::]` instead of `0.0.0.0` in the file listens on IPv4 and IPv6." } else { "" }
    ));
}

/// Explains how to give the gateway access to its keys: it runs as its own user, and systemd hides /home and /root.
fn keys(config: &ProxyConfig, report: &mut Report) {
    let pairs = [&config.client_key_pair, &config.public.tls, &config.admin.tls];
    let pairs = || pairs.into_iter().flatten();
    let at_home = |path: &&Path| path.starts_with("/home") || path.starts_with("/root");
    let unique = |paths: Vec<&Path>| {
        let paths: BTreeSet<_> = paths.iter().map(|path| path.display().to_string()).collect();
        paths.into_iter().collect::<Vec<_>>().join(" ")
    };
    let files = pairs()
        .flat_map(|key_pair| [&key_pair.certificate.value, &key_pair.key.value])
        .map(PathBuf::as_path);
    let in_home = unique(files.filter(at_home).collect());
    if !in_home.is_empty() {
        report.step(format!(
            "systemd hides /home and /root from the gateway: `install -D -g incus-gate -m 640 -t /etc/incus-gate/certs {in_home}`, and change the paths in the file."
        ));
    }
    let keys = pairs().map(|key_pair| key_pair.key.value.as_path());
    let keys = unique(keys.filter(|path| !at_home(path)).collect());
    if !keys.is_empty() {
        report.step(format!(
            "Let the gateway's user read {keys}: `chgrp incus-gate` and `chmod 640`, for Certbot's as in \"Who may read the keys\" in docs/OPERATING.md."
        ));
    }
}

/// Reports ports that Nginx would still need. Two programs cannot share a port.
fn shared_ports(servers: &Servers<'_>, config: &ProxyConfig, report: &mut Report) {
    // Certbot's challenges and the like can move to another port; a website cannot.
    let is_site = |directive: &&Directive| {
        let pattern = directive.arguments.last().map_or("", String::as_str);
        let is_movable = ["/.", "/favicon.ico", "/robots.txt"]
            .iter()
            .any(|path| pattern.starts_with(path));
        directive.is("root") || !is_movable && !directive.children().iter().any(|child| child.is("return"))
    };
    for listen in config.public.listen.iter().chain(&config.admin.listen) {
        let listens_there = |server: &Server<'_>| {
            let mut addresses = server.listens.iter().filter_map(|listen| listen.address);
            addresses.any(|other| overlap(listen.value, other))
        };
        let choose =
            "only one program can use a port: choose another one for the gateway, or give it an address of its own";
        let (comment, port) = (&listen.comment, listen.value.port());
        for other in servers.others.iter().filter(|other| listens_there(other)) {
            let position = &other.directive.position;
            match only_rejects(other) {
                true => report.unsupported(format!(
                    "{position}: this server rejects requests for other host names on port {port}; the gateway accepts every host name"
                )),
                false => report.missing(format!(
                    "{comment}: port {port} is also used by another server ({position}), which stays with Nginx, and {choose}"
                )),
            }
        }
        for incus_server in servers
            .incus
            .iter()
            .filter(|incus_server| listens_there(&incus_server.server))
        {
            let sites: Vec<_> = other_content(incus_server).into_iter().filter(is_site).collect();
            if !sites.is_empty() {
                report.missing(format!(
                    "{comment}: port {port} also serves other content ({}), and {choose}",
                    positions_of(sites)
                ));
            }
        }
    }
}
