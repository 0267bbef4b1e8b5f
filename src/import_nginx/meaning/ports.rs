//! `[public]`, `[admin]` and their certificates, from `listen` and `ssl_certificate`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::access::Access;
use super::super::conditions::ClientVariables;
use super::super::listen::Listen;
use super::super::proxy::{Port, collide};
use super::super::restrictions::{self, Guard};
use super::super::roles::{Part, Parts};
use super::super::site::{Http, Route, Server, Verification};
use super::Translation;
use crate::port;
use crate::port::Port::{Admin, Public};

impl Translation<'_> {
    /// Translates both ports. Returns the directives that hold a port back.
    pub(super) fn ports<'a>(
        &mut self,
        http: &Http<'a>,
        parts: &Parts<'a>,
        variables: &ClientVariables<'a>,
    ) -> Vec<Guard<'a>> {
        let of = |has: fn(&Part<'a>) -> bool| parts.incus.iter().filter(move |part| has(part)).collect::<Vec<_>>();
        let public = of(|part| !part.public.is_empty());
        let admin = of(|part| !part.admin.is_empty());
        self.proxy.public = self.port(&public);
        self.proxy.admin = self.port(&admin);
        let from_strangers: Vec<_> = public
            .iter()
            .flat_map(|part| restrictions::on_public(part, http))
            .collect();
        let from_admins: Vec<_> = admin
            .iter()
            .flat_map(|part| restrictions::on_admin(part, http, variables))
            .collect();
        let routes = public.iter().flat_map(|part| &part.public).collect();
        self.addresses(Public, &public, routes, &from_strangers);
        let routes = admin.iter().flat_map(|part| &part.admin).collect();
        self.addresses(Admin, &admin, routes, &from_admins);
        self.part_ways(&parts.others);
        if parts.incus.is_empty() {
            return Vec::new();
        }
        if public.is_empty() {
            self.report.lost(
                "There is no server for strangers in these files; the gateway's public port is for this machine alone"
                    .to_owned(),
            );
        }
        if admin.is_empty() {
            let is_asked = |part: &Part<'_>| part.server.verification() != Verification::None;
            let what = match parts.incus.iter().any(is_asked) {
                true => "A certificate is asked for in these files, but no location that leads to Incus depends on it",
                false => "There is no server in these files that asks for a certificate",
            };
            self.report.lost(format!(
                "{what}; the gateway's admin port is for this machine alone, and lets nobody in"
            ));
        }
        [from_strangers, from_admins].concat()
    }

    /// Translates the address rules. If the gateway cannot express them, the port is held back: it listens on loopback only.
    fn addresses(&mut self, which: port::Port, parts: &[&Part<'_>], routes: Vec<&Route<'_>>, guards: &[Guard<'_>]) {
        let port = match which {
            Public => &mut self.proxy.public,
            Admin => &mut self.proxy.admin,
        };
        let held_back = format!(". Decide whether that will do, then set `{which}.listen`, which is held back");
        for Guard { directive, effect } in guards {
            port.is_held_back = true;
            self.report.unguarded_by(directive, &format!("{effect}{held_back}"));
        }
        let listens = || parts.iter().flat_map(|part| &part.server.listens);
        let is_local_v4 = |listen: &&Listen<'_>, any: u16| {
            let address = listen.address.filter(SocketAddr::is_ipv4);
            address.is_some_and(|address| address.port() == any && !address.ip().is_unspecified())
        };
        let any_v6 = listens().filter(|listen| listen.is_tls && listen.is_only_v6);
        for (listen, address) in any_v6.filter_map(|listen| Some((listen, listen.address?))) {
            let is_within = |v4: &&Listen<'_>| v4.is_tls && is_local_v4(v4, address.port());
            if address.ip().is_unspecified()
                && let Some(v4) = listens().find(is_within)
            {
                port.is_held_back = true;
                self.report.unguarded(format!(
                    "{}: over IPv4, `listen {}` was reached at that address alone ({}), and the gateway takes IPv4 at every address with `{}`{held_back}",
                    listen.place, v4.text, v4.place, listen.text
                ));
            }
        }
        let mut listens = listens().filter(|listen| listen.is_tls);
        let have_proxy = listens.clone().any(|listen| listen.has_proxy_protocol);
        if have_proxy && let Some(other) = listens.find(|listen| !listen.has_proxy_protocol) {
            port.is_held_back = true;
            self.report.unguarded(format!(
                "{}: not all of the port's clients come by a proxy, as others do{held_back}",
                other.place
            ));
        }
        match Access::of(&routes, have_proxy) {
            Ok(access) => port.access = access,
            Err(problem) => {
                port.is_held_back = true;
                self.report.unguarded(format!("{problem}{held_back}"));
            }
        }
        let believed = routes.iter().find_map(|route| route.scope.one("set_real_ip_from"));
        if let Some(believed) = believed.filter(|_| !have_proxy) {
            self.report.lost(format!(
                "{}: the gateway believes no header about clients' addresses; let the proxy in front speak the PROXY protocol, and name it in `{which}.proxy_protocol_from`",
                believed.place
            ));
        }
    }

    fn port(&mut self, parts: &[&Part<'_>]) -> Port {
        let mut port = Port::default();
        for part in parts {
            for listen in &part.server.listens {
                let place = listen.place;
                match listen.address {
                    None => self
                        .report
                        .missing(format!("{place}: `listen {}` is no address and port", listen.text)),
                    Some(_) if listen.is_quic => {
                        self.report.lost(format!(
                            "{place}: `listen {}` is for HTTP/3, and the gateway speaks HTTP/1.1 and HTTP/2, over TCP",
                            listen.text
                        ));
                        continue;
                    }
                    Some(_) if !listen.is_tls => {
                        self.report.lost(format!(
                            "{place}: `listen {}` is without TLS, which the gateway never is",
                            listen.text
                        ));
                        continue;
                    }
                    Some(address) => port.add(address, place),
                }
            }
            self.tls(&part.server, &mut port);
        }
        port
    }

    fn tls(&mut self, server: &Server<'_>, port: &mut Port) {
        let certificates = server.scope.all("ssl_certificate");
        for more in certificates.iter().skip(1) {
            self.report.lost(format!(
                "{}: a port has one certificate; this second one is left out",
                more.place
            ));
        }
        let found = self.pair(&server.scope, ["ssl_certificate", "ssl_certificate_key"]);
        match (&port.tls, found) {
            (Some(first), Some(other)) if first.certificate.value != other.certificate.value => {
                self.report.lost(format!(
                    "{}: a port has one certificate, whatever name it is asked for; the one of {} it is",
                    other.certificate.comment, first.certificate.comment
                ));
            }
            (Some(_), _) => {}
            (None, Some(found)) => port.tls = Some(found),
            (None, None) => self.report.missing(format!(
                "{}: the certificate that clients see: `ssl_certificate` and its key are not in these files",
                server.directive.place
            )),
        }
    }

    /// Resolves address conflicts between the two ports, Incus, and the servers that stay with Nginx.
    fn part_ways(&mut self, others: &[Server<'_>]) {
        let stay = others.iter().flat_map(|other| &other.listens);
        let mut taken: Vec<_> = stay.filter_map(|listen| listen.address).collect();
        taken.extend(self.proxy.url.as_ref().and_then(|url| local_address(&url.value)));
        let is_in = |list: &[SocketAddr], address| list.iter().any(|other| collide(*other, address));

        let public = self.proxy.public.addresses();
        let (kept, to_move): (Vec<_>, Vec<_>) = std::mem::take(&mut self.proxy.admin.listen)
            .into_iter()
            .partition(|listen| !is_in(&public, listen.value));
        self.proxy.admin.listen = kept;
        for listen in to_move {
            let all = [&taken, &public, &self.proxy.admin.addresses()]
                .map(Vec::as_slice)
                .concat();
            let value = free(listen.value.ip(), usual(Admin), Admin, &all);
            let (from, to) = (listen.value.port(), value.port());
            self.report.lost(format!(
                "{}: strangers and admins cannot share port {from}: admins now come to port {to}, and add their remote anew",
                listen.comment
            ));
            let comment = format!("in place of {from}, which strangers have ({})", listen.comment);
            self.proxy.admin.add(value, comment);
        }

        for which in [Public, Admin] {
            let (port, other) = match which {
                Public => (&self.proxy.public, &self.proxy.admin),
                Admin => (&self.proxy.admin, &self.proxy.public),
            };
            let wanted = match port.listen.first() {
                Some(first) if port.is_held_back => first.value.port(),
                Some(_) => continue,
                None => usual(which),
            };
            let all = [taken.clone(), other.addresses(), other.stand_in.into_iter().collect()].concat();
            let stand_in = Some(free(Ipv4Addr::LOCALHOST.into(), wanted, which, &all));
            match which {
                Public => self.proxy.public.stand_in = stand_in,
                Admin => self.proxy.admin.stand_in = stand_in,
            }
        }
    }
}

fn usual(port: port::Port) -> u16 {
    port.usual_address().port()
}

/// Returns a free address: with the wanted port, else with the first free port from the default one upwards.
fn free(ip: IpAddr, wanted: u16, which: port::Port, taken: &[SocketAddr]) -> SocketAddr {
    let is_free = |address: &SocketAddr| !taken.iter().any(|other| collide(*other, *address));
    let mut addresses = [wanted]
        .into_iter()
        .chain(usual(which)..)
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
