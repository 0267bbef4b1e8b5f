//! The improvements over Nginx. Each is reported only if this configuration had the problem.

use super::account::together;
use super::conditions::ClientVariables;
use super::proxy::Proxy;
use super::report::Report;
use super::roles::{Parts, asks_for_certificate, is_socket_of_incus};
use super::site::{Http, Route, Verification};
use super::tree::Directive;

pub(super) fn say<'a>(
    http: &Http<'a>,
    parts: &Parts<'a>,
    variables: &ClientVariables<'a>,
    proxy: &Proxy,
    report: &mut Report,
) {
    let public: Vec<_> = parts.incus.iter().flat_map(|part| &part.public).collect();
    let admin: Vec<_> = parts.incus.iter().flat_map(|part| &part.admin).collect();
    strangers(&public, report);
    admins(&admin, http, report);
    let all: Vec<_> = public.iter().chain(&admin).copied().collect();
    transport(&all, report);
    clients(parts, variables, proxy, report);
    if proxy.pin.is_some()
        && all
            .iter()
            .any(|route| route.scope.value("proxy_ssl_verify") != Some("on"))
    {
        report.better(
            "Nginx took whoever answered for Incus (`proxy_ssl_verify` is off); now Incus's certificate is pinned"
                .to_owned(),
        );
    }
    for part in parts
        .incus
        .iter()
        .filter(|part| !part.admin.is_empty() || !part.public.is_empty())
    {
        for listen in part
            .server
            .listens
            .iter()
            .filter(|listen| listen.is_tls && listen.is_only_v6)
        {
            let port = listen.address.map_or(0, |address| address.port());
            let has_v4 = part.server.listens.iter().any(|other| {
                other
                    .address
                    .is_some_and(|address| address.is_ipv4() && address.port() == port)
            });
            if !has_v4 && listen.text.starts_with("[::]") {
                report.better(format!(
                    "{}: `{}` was IPv6 alone; the gateway takes IPv4 there as well",
                    listen.place, listen.text
                ));
            }
        }
    }
}

fn strangers(routes: &[&Route<'_>], report: &mut Report) {
    let trusted: Vec<_> = routes
        .iter()
        .copied()
        .filter(|route| route.scope.one("proxy_ssl_certificate").is_some())
        .collect();
    if !trusted.is_empty() {
        report.better(format!(
            "{}: strangers' requests went to Incus over a connection that it trusts, so that they could list and download private images of every project (`?project=`, `?all-projects=true`). Now they are answered from what is published, and reach Incus never",
            passes(&trusted)
        ));
        let of_server: Vec<_> = trusted.iter().copied().filter(|route| shows_server(route)).collect();
        if !of_server.is_empty() {
            report.better(format!(
                "{}: strangers read the server's whole configuration, passwords included. Now they see what their client needs to know",
                passes(&of_server)
            ));
        }
        let whole: Vec<_> = trusted.iter().copied().filter(|route| route.takes_all()).collect();
        if !whole.is_empty() {
            report.better(format!(
                "{}: strangers had ALL of Incus here, instances included: look for what they may have left there",
                passes(&whole)
            ));
        }
    }
    let with_head = routes.iter().any(|route| {
        let words = route
            .conditions()
            .map(|condition| condition.directive)
            .chain(route.blocks.iter().copied())
            .flat_map(|block| &block.arguments);
        words.into_iter().any(|word| word.contains("HEAD"))
    });
    if with_head {
        report.lost(
            "Strangers could ask with HEAD; the gateway's public port knows GET alone, as do Incus's clients"
                .to_owned(),
        );
    }
}

fn shows_server(route: &Route<'_>) -> bool {
    let pattern = route.pattern().replace('\\', "");
    route.takes_all()
        || pattern
            .trim_start_matches('^')
            .trim_end_matches('$')
            .trim_end_matches('/')
            == "/1.0"
}

fn admins<'a>(routes: &[&Route<'a>], http: &Http<'a>, report: &mut Report) {
    let untrusted: Vec<_> = routes
        .iter()
        .copied()
        // Incus treats every client of its Unix socket as root.
        .filter(|route| route.scope.one("proxy_ssl_certificate").is_none() && !is_socket_of_incus(route, http))
        .collect();
    if !untrusted.is_empty() {
        report.better(format!(
            "{}: Nginx showed no certificate to Incus here, which answered admins as strangers. Now both ports use the trusted connection",
            passes(&untrusted)
        ));
    }
    for route in routes {
        let size = route.scope.one("client_max_body_size");
        let is_any = size.is_some_and(|size| size.value().trim_end_matches(|c: char| c.is_ascii_alphabetic()) == "0");
        if !is_any {
            let (place, size) = size.map_or((&route.pass.place, "1m"), |size| (&size.place, size.value()));
            report.better(format!(
                "{place}: imports larger than {size} ended with 413 (`client_max_body_size`); now images of any size are streamed"
            ));
        }
        let upgrades = route
            .scope
            .all("proxy_set_header")
            .iter()
            .any(|header| header.value().eq_ignore_ascii_case("upgrade"));
        if !upgrades {
            report.better(format!(
                "{}: `incus exec`, `console`, `monitor` and `file push` did not work for want of upgrades; now they do",
                route.pass.place
            ));
        }
    }
}

fn transport(routes: &[&Route<'_>], report: &mut Report) {
    let old: Vec<_> = routes
        .iter()
        .copied()
        .filter(|route| route.scope.value("proxy_http_version") != Some("1.1"))
        .collect();
    if !old.is_empty() {
        report.better(format!(
            "{}: over HTTP/1.0 to Incus (`proxy_http_version`, the default in most versions) a torn download of a split image looked whole; now it is torn for the client too",
            passes(&old)
        ));
    }
    let protocols = routes.iter().find_map(|route| route.scope.one("ssl_protocols"));
    match protocols {
        None if routes.is_empty() => {}
        None => report.better(
            "TLS 1.3, the only one that Incus's clients speak, is on; in Nginx before 1.23.4 it was not, unless told"
                .to_owned(),
        ),
        Some(protocols) if !protocols.arguments.iter().any(|version| version == "TLSv1.3") => report.better(format!(
            "{}: TLS 1.3 was off, and Incus's clients speak nothing else; now it is on",
            protocols.place
        )),
        Some(protocols)
            if protocols
                .arguments
                .iter()
                .any(|version| version == "TLSv1" || version == "TLSv1.1") =>
        {
            report.better(format!(
                "{}: TLS 1.0 and 1.1 are gone; 1.2 and 1.3 are what is left",
                protocols.place
            ));
        }
        Some(_) => {}
    }
}

fn clients(parts: &Parts<'_>, variables: &ClientVariables<'_>, proxy: &Proxy, report: &mut Report) {
    for part in &parts.incus {
        let is_unused = !proxy.public.is_held_back && !asks_for_certificate(&part.server, variables);
        if part.admin.is_empty() && part.server.verification() == Verification::Optional && is_unused {
            report.better(format!(
                "{}: a certificate was asked for, but nobody was refused for want of one; the gateway's admin port refuses",
                part.server.directive.place
            ));
        }
        if !part.admin.is_empty() {
            report.better("Who comes without a listed certificate gets a 403 in Incus's own form, in place of a page of HTML with status 400".to_owned());
        }
    }
}

fn passes(routes: &[&Route<'_>]) -> String {
    together(routes.iter().map(|route| -> &Directive { route.pass }))
}
