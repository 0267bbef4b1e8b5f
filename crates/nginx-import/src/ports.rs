//! `[public]`, `[admin]` and their certificates, from `listen` and `ssl_certificate`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::access_conditions::{self, AccessCondition};
use crate::address_rules::AddressRules;
use crate::certificate_conditions::ClientVariables;
use crate::classify::{IncusServer, Servers};
use crate::draft::Draft;
use crate::listen::Listen;
use crate::locations::{Http, Route, Server, Verification};
use crate::output::{PortConfig, overlap};
use crate::port::Port::{self, Admin, Public};

/// Translates both ports. Returns the directives that hold a port back.
pub(crate) fn translate<'a>(
    draft: &mut Draft<'_>,
    http: &Http<'a>,
    servers: &Servers<'a>,
    variables: &ClientVariables<'a>,
) -> Vec<AccessCondition<'a>> {
    let servers_with = |has: fn(&IncusServer<'a>) -> bool| {
        servers
            .incus
            .iter()
            .filter(move |incus_server| has(incus_server))
            .collect::<Vec<_>>()
    };
    let public = servers_with(|incus_server| !incus_server.public.is_empty());
    let admin = servers_with(|incus_server| !incus_server.admin.is_empty());
    draft.config.public = port_config(draft, &public);
    draft.config.admin = port_config(draft, &admin);
    let public_conditions: Vec<_> = public
        .iter()
        .flat_map(|incus_server| access_conditions::on_public(incus_server, http))
        .collect();
    let admin_conditions: Vec<_> = admin
        .iter()
        .flat_map(|incus_server| access_conditions::on_admin(incus_server, http, variables))
        .collect();
    let routes = public.iter().flat_map(|incus_server| &incus_server.public).collect();
    restrict_addresses(draft, Public, &public, routes, &public_conditions);
    let routes = admin.iter().flat_map(|incus_server| &incus_server.admin).collect();
    restrict_addresses(draft, Admin, &admin, routes, &admin_conditions);
    resolve_conflicts(draft, &servers.others);
    if servers.incus.is_empty() {
        return Vec::new();
    }
    if public.is_empty() {
        draft.report.unsupported(
            "These files have no server for strangers; the gateway's public port listens on this machine only"
                .to_owned(),
        );
    }
    if admin.is_empty() {
        let requests_certificate =
            |incus_server: &IncusServer<'_>| incus_server.server.verification() != Verification::None;
        let what = match servers.incus.iter().any(requests_certificate) {
            true => "These files request a certificate, but no location that leads to Incus depends on it",
            false => "These files have no server that requests a certificate",
        };
        draft.report.unsupported(format!(
            "{what}; the gateway's admin port listens on this machine only, and admits no client"
        ));
    }
    [public_conditions, admin_conditions].concat()
}

/// Translates the address rules. If the gateway cannot express them, the port is held back: it listens on loopback only.
fn restrict_addresses(
    draft: &mut Draft<'_>,
    port: Port,
    servers: &[&IncusServer<'_>],
    routes: Vec<&Route<'_>>,
    access_conditions: &[AccessCondition<'_>],
) {
    let config = draft.config.port_mut(port);
    let report = &mut draft.report;
    let held_back = format!(". Decide whether that is acceptable, then set `{port}.listen`, which is held back");
    for AccessCondition { directive, effect } in access_conditions {
        config.is_held_back = true;
        report.unenforced_for(directive, &format!("{effect}{held_back}"));
    }
    let listens = || servers.iter().flat_map(|incus_server| &incus_server.server.listens);
    let is_specific_v4 = |listen: &&Listen<'_>, number: u16| {
        let address = listen.address.filter(SocketAddr::is_ipv4);
        address.is_some_and(|address| address.port() == number && !address.ip().is_unspecified())
    };
    let v6_only = listens().filter(|listen| listen.is_tls && listen.is_v6_only);
    for (listen, address) in v6_only.filter_map(|listen| Some((listen, listen.address?))) {
        let is_one_of_its_addresses = |v4: &&Listen<'_>| v4.is_tls && is_specific_v4(v4, address.port());
        if address.ip().is_unspecified()
            && let Some(v4) = listens().find(is_one_of_its_addresses)
        {
            config.is_held_back = true;
            report.unenforced(format!(
                "{}: over IPv4, clients reached `listen {}` at that address only ({}), and the gateway accepts IPv4 at every address with `{}`{held_back}",
                listen.position, v4.text, v4.position, listen.text
            ));
        }
    }
    let mut listens = listens().filter(|listen| listen.is_tls);
    let has_proxy = listens.clone().any(|listen| listen.has_proxy_protocol);
    if has_proxy && let Some(other) = listens.find(|listen| !listen.has_proxy_protocol) {
        config.is_held_back = true;
        report.unenforced(format!(
            "{}: some of the port's clients connect through a proxy, and some do not{held_back}",
            other.position
        ));
    }
    match AddressRules::of(&routes, has_proxy) {
        Ok(address_rules) => config.address_rules = address_rules,
        Err(problem) => {
            config.is_held_back = true;
            report.unenforced(format!("{problem}{held_back}"));
        }
    }
    let trusted_header = routes.iter().find_map(|route| route.scope.first("set_real_ip_from"));
    if let Some(trusted_header) = trusted_header.filter(|_| !has_proxy) {
        report.unsupported(format!(
            "{}: the gateway trusts no header about client addresses; let the proxy in front use the PROXY protocol, and list it in `{port}.proxy_protocol_from`",
            trusted_header.position
        ));
    }
}

fn port_config(draft: &mut Draft<'_>, servers: &[&IncusServer<'_>]) -> PortConfig {
    let mut port = PortConfig::default();
    for incus_server in servers {
        for listen in &incus_server.server.listens {
            let position = listen.position;
            match listen.address {
                None => draft.report.missing(format!(
                    "{position}: `listen {}` is not an address and port",
                    listen.text
                )),
                Some(_) if listen.is_quic => {
                    draft.report.unsupported(format!(
                        "{position}: `listen {}` is for HTTP/3, and the gateway supports HTTP/1.1 and HTTP/2, over TCP",
                        listen.text
                    ));
                    continue;
                }
                Some(_) if !listen.is_tls => {
                    draft.report.unsupported(format!(
                        "{position}: `listen {}` is without TLS, which the gateway does not support",
                        listen.text
                    ));
                    continue;
                }
                Some(address) => port.add(address, position),
            }
        }
        translate_tls(draft, &incus_server.server, &mut port);
    }
    port
}

fn translate_tls(draft: &mut Draft<'_>, server: &Server<'_>, port: &mut PortConfig) {
    let certificates = server.scope.all("ssl_certificate");
    for extra in certificates.iter().skip(1) {
        draft.report.unsupported(format!(
            "{}: a port has one certificate; this second one is left out",
            extra.position
        ));
    }
    let found = draft.key_pair(&server.scope, ["ssl_certificate", "ssl_certificate_key"]);
    match (&port.tls, found) {
        (Some(first), Some(other)) if first.certificate.value != other.certificate.value => {
            draft.report.unsupported(format!(
                "{}: a port has one certificate, whatever the requested host name; the one of {} is used",
                other.certificate.comment, first.certificate.comment
            ));
        }
        (Some(_), _) => {}
        (None, Some(found)) => port.tls = Some(found),
        (None, None) => draft.report.missing(format!(
            "{}: the certificate that clients see: `ssl_certificate` and its key are not in these files",
            server.directive.position
        )),
    }
}

/// Resolves address conflicts between the two ports, Incus, and the servers that stay with Nginx.
fn resolve_conflicts(draft: &mut Draft<'_>, others: &[Server<'_>]) {
    let options = draft.options;
    let default_port = |port| options.default_address(port).port();
    let other_listens = others.iter().flat_map(|other| &other.listens);
    let mut taken: Vec<_> = other_listens.filter_map(|listen| listen.address).collect();
    taken.extend(
        draft
            .config
            .upstream_url
            .as_ref()
            .and_then(|url| local_address(&url.value)),
    );
    let is_in = |list: &[SocketAddr], address| list.iter().any(|other| overlap(*other, address));

    let public = draft.config.public.addresses();
    let (kept, to_move): (Vec<_>, Vec<_>) = std::mem::take(&mut draft.config.admin.listen)
        .into_iter()
        .partition(|listen| !is_in(&public, listen.value));
    draft.config.admin.listen = kept;
    for listen in to_move {
        let all = [&taken, &public, &draft.config.admin.addresses()]
            .map(Vec::as_slice)
            .concat();
        let value = free_address(listen.value.ip(), default_port(Admin), default_port(Admin), &all);
        let (from, to) = (listen.value.port(), value.port());
        draft.report.unsupported(format!(
            "{}: strangers and admins cannot share port {from}: admins now use port {to}, and add their remote again",
            listen.comment
        ));
        let comment = format!("instead of {from}, which strangers use ({})", listen.comment);
        draft.config.admin.add(value, comment);
    }

    for port in [Public, Admin] {
        let (config, other) = match port {
            Public => (&draft.config.public, &draft.config.admin),
            Admin => (&draft.config.admin, &draft.config.public),
        };
        let wanted = match config.listen.first() {
            Some(first) if config.is_held_back => first.value.port(),
            Some(_) => continue,
            None => default_port(port),
        };
        let all = [
            taken.clone(),
            other.addresses(),
            other.loopback_listen.into_iter().collect(),
        ]
        .concat();
        let loopback_listen = Some(free_address(
            Ipv4Addr::LOCALHOST.into(),
            wanted,
            default_port(port),
            &all,
        ));
        draft.config.port_mut(port).loopback_listen = loopback_listen;
    }
}

/// Returns a free address: with the wanted port, else with the first free port from `first` upwards.
fn free_address(ip: IpAddr, wanted: u16, first: u16, taken: &[SocketAddr]) -> SocketAddr {
    let is_free = |address: &SocketAddr| !taken.iter().any(|other| overlap(*other, *address));
    let mut addresses = [wanted]
        .into_iter()
        .chain(first..)
        .map(|port| SocketAddr::new(ip, port));
    addresses.find(is_free).unwrap_or_else(|| SocketAddr::new(ip, wanted))
}

/// Returns Incus's address, if the URL contains an IP address or `localhost`.
fn local_address(url: &str) -> Option<SocketAddr> {
    let authority = url.strip_prefix("https://")?;
    let ip = |host: &str| match host {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.trim_matches(['[', ']']).parse().ok(),
    };
    let (host, port) = authority.rsplit_once(':')?;
    Some(SocketAddr::new(ip(host)?, port.parse().ok()?))
}
