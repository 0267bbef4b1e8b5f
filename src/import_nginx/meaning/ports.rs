//! `[public]`, `[admin]` and their certificates, from `listen` and `ssl_certificate`.

use std::collections::HashSet;

use super::super::access::Access;
use super::super::conditions::ClientVariables;
use super::super::proxy::{Port, Sourced};
use super::super::restrictions;
use super::super::roles::{Part, Parts};
use super::super::site::{Route, Server};
use super::Translation;

impl Translation<'_> {
    pub(super) fn ports(&mut self, parts: &Parts<'_>, variables: &ClientVariables<'_>) {
        let of = |has: fn(&Part<'_>) -> bool| parts.incus.iter().filter(move |part| has(part)).collect::<Vec<_>>();
        let public = of(|part| !part.public.is_empty());
        let admin = of(|part| !part.admin.is_empty());
        self.proxy.public = self.port(&public);
        self.proxy.admin = self.port(&admin);
        self.part_ways(&admin);
        let from_strangers = public.iter().flat_map(|part| restrictions::on_public(part)).collect();
        let from_admins = admin
            .iter()
            .flat_map(|part| restrictions::on_admin(part, variables))
            .collect();
        self.addresses(
            "public",
            &public,
            public.iter().flat_map(|part| &part.public),
            from_strangers,
        );
        self.addresses("admin", &admin, admin.iter().flat_map(|part| &part.admin), from_admins);
        if parts.incus.is_empty() {
            return;
        }
        if public.is_empty() {
            self.report.lost(
                "There is no server for strangers in these files; the gateway's public port is for this machine alone"
                    .to_owned(),
            );
        }
        if admin.is_empty() {
            self.report.lost("There is no server in these files that asks for a certificate; the gateway's admin port is for this machine alone, and lets nobody in".to_owned());
        }
    }

    /// Who may connect; where the gateway cannot say it as Nginx did, nobody from outside.
    fn addresses<'a>(
        &mut self,
        key: &str,
        parts: &[&Part<'_>],
        routes: impl Iterator<Item = &'a Route<'a>>,
        mut kept_out: Vec<String>,
    ) {
        let routes: Vec<_> = routes.collect();
        let port = match key {
            "public" => &mut self.proxy.public,
            _ => &mut self.proxy.admin,
        };
        let mut listens = parts
            .iter()
            .flat_map(|part| &part.server.listens)
            .filter(|listen| listen.is_tls);
        let have_proxy = listens.clone().any(|listen| listen.has_proxy_protocol);
        if have_proxy && let Some(other) = listens.find(|listen| !listen.has_proxy_protocol) {
            kept_out.push(format!(
                "{}: not all of the port's clients come by a proxy, as others do",
                other.place
            ));
        }
        match Access::of(&routes, have_proxy) {
            Ok(access) => port.access = access,
            Err(problem) => kept_out.push(problem),
        }
        for text in kept_out {
            port.is_held_back = true;
            self.report.missing(format!(
                "{text}. Decide whether that will do, then set `{key}.listen`, which is held back"
            ));
        }
        let believed = routes.iter().find_map(|route| route.scope.one("set_real_ip_from"));
        if let Some(believed) = believed.filter(|_| !have_proxy) {
            self.report.lost(format!(
                "{}: the gateway believes no header about clients' addresses; let the proxy in front speak the PROXY protocol, and name it in `{key}.proxy_protocol_from`",
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

    /// One port cannot be both.
    fn part_ways(&mut self, admin: &[&Part<'_>]) {
        let public: HashSet<_> = self
            .proxy
            .public
            .listen
            .iter()
            .map(|listen| listen.value.clone())
            .collect();
        let mut moved: Vec<Sourced<String>> = Vec::new();
        for listen in &self.proxy.admin.listen {
            if !public.contains(&listen.value) {
                moved.push(listen.clone());
                continue;
            }
            let (host, port) = listen.value.rsplit_once(':').unwrap_or((&listen.value, ""));
            let is_free = |port: &&str| !public.contains(&format!("{host}:{port}"));
            let free = ["8555", "8556"].into_iter().find(is_free).unwrap_or("8557");
            self.report.lost(format!(
                "{}: strangers and admins cannot share port {port}: admins now come to port {free}, and add their remote anew",
                listen.comment
            ));
            let value = format!("{host}:{free}");
            let comment = format!("in place of {port}, which strangers have ({})", listen.comment);
            if !moved.iter().any(|known| known.value == value) {
                moved.push(Sourced::new(value, comment));
            }
        }
        if !admin.is_empty() {
            self.proxy.admin.listen = moved;
        }
    }
}
