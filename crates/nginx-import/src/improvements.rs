//! The improvements over Nginx. Each is reported only if this configuration had the problem.

use crate::certificate_conditions::ClientVariables;
use crate::classify::{Servers, targets_incus_socket, tests_client_certificate};
use crate::directive::{Directive, positions_of};
use crate::locations::{Http, Route, Verification};
use crate::output::ProxyConfig;
use crate::report::Report;
use crate::target::covers_all_paths;

/// Reports all of them.
pub(crate) fn report_all<'a>(
    http: &Http<'a>,
    servers: &Servers<'a>,
    variables: &ClientVariables<'a>,
    config: &ProxyConfig,
    report: &mut Report,
) {
    let public: Vec<_> = servers
        .incus
        .iter()
        .flat_map(|incus_server| &incus_server.public)
        .collect();
    let admin: Vec<_> = servers
        .incus
        .iter()
        .flat_map(|incus_server| &incus_server.admin)
        .collect();
    strangers(&public, report);
    admins(&admin, http, report);
    let all: Vec<_> = public.iter().chain(&admin).copied().collect();
    transport(&all, report);
    clients(servers, variables, config, report);
    if config.pin.is_some()
        && all
            .iter()
            .any(|route| route.scope.value("proxy_ssl_verify") != Some("on"))
    {
        report.improvement(
            "Nginx accepted any server as Incus (`proxy_ssl_verify` is off); now Incus's certificate is pinned"
                .to_owned(),
        );
    }
    for incus_server in servers
        .incus
        .iter()
        .filter(|incus_server| !incus_server.admin.is_empty() || !incus_server.public.is_empty())
    {
        for listen in incus_server
            .server
            .listens
            .iter()
            .filter(|listen| listen.is_tls && listen.is_v6_only)
        {
            let port = listen.address.map_or(0, |address| address.port());
            let has_v4 = incus_server.server.listens.iter().any(|other| {
                other
                    .address
                    .is_some_and(|address| address.is_ipv4() && address.port() == port)
            });
            if !has_v4 && listen.text.starts_with("[::]") {
                report.improvement(format!(
                    "{}: `{}` was IPv6 only; the gateway accepts IPv4 there as well",
                    listen.position, listen.text
                ));
            }
        }
    }
}

fn strangers(routes: &[&Route<'_>], report: &mut Report) {
    let trusted: Vec<_> = routes
        .iter()
        .copied()
        .filter(|route| route.scope.first("proxy_ssl_certificate").is_some())
        .collect();
    if !trusted.is_empty() {
        report.improvement(format!(
            "{}: strangers' requests went to Incus over a connection that it trusts, so that they could list and download private images of every project (`?project=`, `?all-projects=true`). Now they are answered from the published images, and never reach Incus",
            pass_positions(&trusted)
        ));
        let of_server: Vec<_> = trusted.iter().copied().filter(|route| exposes_server(route)).collect();
        if !of_server.is_empty() {
            report.improvement(format!(
                "{}: strangers could read the server's whole configuration, passwords included. Now they see only what their client needs",
                pass_positions(&of_server)
            ));
        }
        let whole: Vec<_> = trusted
            .iter()
            .copied()
            .filter(|route| covers_all_paths(route))
            .collect();
        if !whole.is_empty() {
            report.improvement(format!(
                "{}: strangers had the FULL Incus API here, instances included: check what they may have left there",
                pass_positions(&whole)
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
        report.unsupported(
            "Strangers could use HEAD; the gateway's public port supports GET only, as Incus's clients do".to_owned(),
        );
    }
}

fn exposes_server(route: &Route<'_>) -> bool {
    let pattern = route.pattern().replace('\\', "");
    covers_all_paths(route)
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
        .filter(|route| route.scope.first("proxy_ssl_certificate").is_none() && !targets_incus_socket(route, http))
        .collect();
    if !untrusted.is_empty() {
        report.improvement(format!(
            "{}: Nginx presented no certificate to Incus here, which treated admins as strangers. Now both ports use the trusted connection",
            pass_positions(&untrusted)
        ));
    }
    for route in routes {
        let size = route.scope.first("client_max_body_size");
        let is_any = size.is_some_and(|size| size.value().trim_end_matches(|c: char| c.is_ascii_alphabetic()) == "0");
        if !is_any {
            let (position, size) = size.map_or((&route.pass.position, "1m"), |size| (&size.position, size.value()));
            report.improvement(format!(
                "{position}: imports larger than {size} failed with 413 (`client_max_body_size`); now images of any size are streamed"
            ));
        }
        let upgrades = route
            .scope
            .all("proxy_set_header")
            .iter()
            .any(|header| header.value().eq_ignore_ascii_case("upgrade"));
        if !upgrades {
            report.improvement(format!(
                "{}: `incus exec`, `console`, `monitor` and `file push` did not work without upgrades; now they do",
                route.pass.position
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
        report.improvement(format!(
            "{}: over HTTP/1.0 to Incus (`proxy_http_version`, the default in most versions) a truncated download of a split image looked complete; now it is truncated for the client too",
            pass_positions(&old)
        ));
    }
    let protocols = routes.iter().find_map(|route| route.scope.first("ssl_protocols"));
    match protocols {
        None if routes.is_empty() => {}
        None => report.improvement(
            "TLS 1.3, the only version that Incus's clients support, is on; in Nginx before 1.23.4 it is off by default"
                .to_owned(),
        ),
        Some(protocols) if !protocols.arguments.iter().any(|version| version == "TLSv1.3") => {
            report.improvement(format!(
                "{}: TLS 1.3 was off, and Incus's clients support nothing else; now it is on",
                protocols.position
            ));
        }
        Some(protocols)
            if protocols
                .arguments
                .iter()
                .any(|version| version == "TLSv1" || version == "TLSv1.1") =>
        {
            report.improvement(format!(
                "{}: TLS 1.0 and 1.1 are off; the gateway supports 1.2 and 1.3",
                protocols.position
            ));
        }
        Some(_) => {}
    }
}

fn clients(servers: &Servers<'_>, variables: &ClientVariables<'_>, config: &ProxyConfig, report: &mut Report) {
    for incus_server in &servers.incus {
        let is_unused = !config.public.is_held_back && !tests_client_certificate(&incus_server.server, variables);
        if incus_server.admin.is_empty() && incus_server.server.verification() == Verification::Optional && is_unused {
            report.improvement(format!(
                "{}: a certificate was requested, but clients without one were not rejected; the gateway's admin port rejects them",
                incus_server.server.directive.position
            ));
        }
        if !incus_server.admin.is_empty() {
            report.improvement("Clients without a listed certificate get a 403 as Incus's JSON, instead of an HTML page with status 400".to_owned());
        }
    }
}

fn pass_positions(routes: &[&Route<'_>]) -> String {
    positions_of(routes.iter().map(|route| -> &Directive { route.pass }))
}
