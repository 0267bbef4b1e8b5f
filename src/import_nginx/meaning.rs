//! From Nginx's tree to `proxy.toml`, and to the sentences about what differs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::account;
use super::better;
use super::clients::{self, ClientVariables, Listed, absolute};
use super::proxy::{Pair, Port, Proxy, Sourced, is_loopback};
use super::report::Report;
use super::restrictions;
use super::roles::{Part, Parts, parts};
use super::site::{Http, Route, Scope, Server};
use super::steps;
use super::tree::{Directive, Place};
use super::units;
use crate::tls::{certificate, read_certificate};

/// Where the machine keeps what is not in Nginx's files.
#[derive(Debug)]
pub(super) struct Machine {
    /// Nginx's, where relative paths start.
    pub(super) prefix: PathBuf,
    /// Incus's own folder.
    pub(super) incus: PathBuf,
}

pub(super) fn translate(tree: &[Directive], file: &Path, machine: &Machine) -> (Proxy, Report) {
    let http = Http::of(tree);
    let variables = ClientVariables::of(&http);
    let parts = parts(&http, &variables);
    let mut translation = Translation {
        machine,
        proxy: Proxy {
            origin: file.display().to_string(),
            folder: machine.prefix.display().to_string(),
            ..Proxy::default()
        },
        report: Report::new(machine.prefix.display().to_string()),
    };
    if parts.incus.is_empty() {
        translation.report.missing(format!(
            "{}: no server here hands requests on to an Incus: none asks clients for a certificate, has one to show behind it, or has a location for `/1.0`{}",
            file.display(),
            if http.is_whole { "" } else { ". If it is part of a larger configuration, give its nginx.conf" }
        ));
    }
    translation.upstream(&parts);
    translation.ports(&parts, &variables);
    translation.clients(&parts, &variables);
    translation.limits(tree, &parts);
    let Translation { proxy, mut report, .. } = translation;
    account::for_all(tree, &http, &parts, &variables, &mut report);
    better::say(&parts, &proxy, &mut report);
    steps::say(&parts, &proxy, &mut report);
    (proxy, report)
}

struct Translation<'m> {
    machine: &'m Machine,
    proxy: Proxy,
    report: Report,
}

impl Translation<'_> {
    fn upstream(&mut self, parts: &Parts<'_>) {
        for problem in &parts.problems {
            self.report.lost(problem.clone());
        }
        match &parts.target {
            Some(target) => {
                self.proxy.url = Some(Sourced::new(target.url.clone(), target.place));
                for other in &target.others {
                    self.report.lost(format!(
                        "{}: the gateway stands in front of one Incus, {}, and leaves `{}` out",
                        other.place,
                        target.url,
                        other.arguments.join(" ")
                    ));
                }
            }
            None if parts.incus.is_empty() => {}
            None => self.report.missing("where Incus is: `upstream.url`".to_owned()),
        }
        let routes = || parts.incus.iter().flat_map(|part| &part.server.routes);
        let with_certificate = routes().find(|route| route.scope.one("proxy_ssl_certificate").is_some());
        if let Some(route) = with_certificate {
            self.proxy.identity = self.pair(&route.scope, ["proxy_ssl_certificate", "proxy_ssl_certificate_key"]);
        }
        if self.proxy.identity.is_none() && !parts.incus.is_empty() {
            self.report.missing(
                "what the gateway shows to Incus: `upstream.client_certificate` and its key. Make both with `certs/make`, and have Incus trust the certificate: `incus config trust add-certificate`".to_owned(),
            );
        }
        self.pin(routes().next());
    }

    /// Nginx holds Incus's certificate against an authority, if against anything; the gateway against itself.
    fn pin(&mut self, route: Option<&Route<'_>>) {
        let Some(route) = route else { return };
        if route.scope.value("proxy_ssl_verify") == Some("on")
            && let Some(trusted) = route.scope.one("proxy_ssl_trusted_certificate")
        {
            let place = &trusted.place;
            match absolute(&self.machine.prefix, trusted).map(|path| (read_certificate(&path), path)) {
                Ok((Ok(certificate), path)) if !certificate::is_authority(&certificate).unwrap_or(true) => {
                    self.proxy.pin = Some(Sourced::new(path, place));
                    return;
                }
                Ok((Ok(_), path)) => self.report.lost(format!(
                    "{place}: {} is an authority, and the gateway goes by Incus's very certificate instead",
                    path.display()
                )),
                Ok((Err(error), _)) => self.report.lost(format!("{place}: {error}")),
                Err(problem) => self.report.lost(problem),
            }
        }
        let is_here = self.proxy.url.as_ref().is_some_and(|url| is_loopback(&url.value));
        // In a cluster it is the one that clients see.
        let own = ["cluster.crt", "server.crt"]
            .map(|name| self.machine.incus.join(name))
            .into_iter()
            .find(|path| path.exists());
        match own {
            Some(own) if is_here => self.proxy.pin = Some(Sourced::new(own, "Incus's own, on this machine")),
            _ if is_here => self.report.lost(format!(
                "Incus's own certificate is not at {}, so whoever listens at that address of this machine is taken for Incus: set `upstream.server_certificate`",
                self.machine.incus.join("server.crt").display()
            )),
            _ if self.proxy.url.is_some() => self.report.missing(
                "how to know Incus on another machine: copy its server.crt (in a cluster: cluster.crt) here, and name it in `upstream.server_certificate`".to_owned(),
            ),
            _ => {}
        }
    }

    fn ports(&mut self, parts: &Parts<'_>, variables: &ClientVariables<'_>) {
        let of = |has: fn(&Part<'_>) -> bool| parts.incus.iter().filter(move |part| has(part)).collect::<Vec<_>>();
        let public = of(|part| !part.public.is_empty());
        let admin = of(|part| !part.admin.is_empty());
        self.proxy.public = self.port(&public);
        self.proxy.admin = self.port(&admin);
        self.part_ways(&admin);
        for (key, parts, restrictions) in [
            (
                "public",
                &public,
                restrictions::on_public as fn(&Part<'_>, &ClientVariables<'_>) -> Vec<String>,
            ),
            ("admin", &admin, restrictions::on_admin),
        ] {
            for text in parts.iter().flat_map(|part| restrictions(part, variables)) {
                let port = if key == "public" {
                    &mut self.proxy.public
                } else {
                    &mut self.proxy.admin
                };
                port.is_held_back = true;
                self.report.missing(format!(
                    "{text}. Decide whether that will do, then set `{key}.listen`, which is held back"
                ));
            }
        }
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
                    Some(address) => {
                        let text = address.to_string();
                        if !port.listen.iter().any(|known| known.value == text) {
                            port.listen.push(Sourced::new(text, place));
                        }
                    }
                }
                if listen.has_proxy_protocol {
                    self.report.missing(format!(
                        "{place}: clients come by a proxy that speaks the PROXY protocol: name that proxy in `proxy_protocol_from`, if your gateway has that key, or turn it off there"
                    ));
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

    fn pair(&mut self, scope: &Scope<'_>, names: [&str; 2]) -> Option<Pair> {
        let [certificate, key] = names.map(|name| {
            let directive = scope.one(name)?;
            match absolute(&self.machine.prefix, directive) {
                Ok(path) => Some(Sourced::new(path, &directive.place)),
                Err(problem) => {
                    self.report.missing(problem);
                    None
                }
            }
        });
        let (certificate, key) = (certificate?, key?);
        Some(Pair { certificate, key })
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

    fn clients(&mut self, parts: &Parts<'_>, variables: &ClientVariables<'_>) {
        self.proxy.are_clients_certain = true;
        let admin: Vec<_> = parts.incus.iter().filter(|part| !part.admin.is_empty()).collect();
        let mut files = HashSet::new();
        for part in admin {
            let scope = &part.server.scope;
            let demands = variables.demands(&part.admin.iter().collect::<Vec<_>>());
            let trusted = scope
                .one("ssl_trusted_certificate")
                .filter(|_| scope.value("ssl_stapling") != Some("on"));
            let named = scope.one("ssl_client_certificate");
            if let (Some(_), Some(trusted)) = (named, trusted) {
                self.report.lost(format!(
                    "{}: whom these authorities have signed was let in too; list those by their own certificates",
                    trusted.place
                ));
            }
            let Some(directive) = named.or(trusted) else {
                self.report.missing(format!(
                    "{}: who the admins are: there is no `ssl_client_certificate`; list them in [[admin.clients]]",
                    part.server.directive.place
                ));
                continue;
            };
            let path = match absolute(&self.machine.prefix, directive) {
                Ok(path) => path,
                Err(problem) => {
                    self.report.missing(problem);
                    continue;
                }
            };
            if let Some(crl) = scope.one("ssl_crl") {
                self.uncertain(format!(
                    "{}: the gateway has no list of revoked certificates",
                    crl.place
                ));
            }
            for condition in &demands.other {
                self.uncertain(format!(
                    "{}: the condition `{}` on certificates cannot be held against them here",
                    condition.place,
                    condition.arguments.join(" ")
                ));
            }
            if !files.insert(path.clone()) && demands.fingerprints.is_empty() {
                continue;
            }
            let listed = clients::list(&path, &directive.place, &demands, &mut self.report);
            self.admit(listed, directive, &path);
        }
    }

    fn admit(&mut self, listed: Listed, directive: &Directive, path: &Path) {
        if !listed.is_certain {
            self.proxy.are_clients_certain = false;
        }
        if listed.clients.iter().any(|client| client.fingerprint.is_none()) {
            self.report.missing(format!(
                "{}: Nginx knows admins by the SHA-1 of certificates that are not in {}; ask them for those (they are in their ~/.config/incus/client.crt)",
                directive.place,
                path.display()
            ));
        }
        if listed.have_authority {
            self.report.lost(format!(
                "{}: a certificate here can sign others, and Nginx let in whomever it had signed; the gateway lets in who shows a listed certificate itself. List those of admins who come with another one",
                directive.place
            ));
        }
        let own = self
            .proxy
            .identity
            .as_ref()
            .and_then(|pair| read_certificate(&pair.certificate.value).ok());
        let own = own.map(|own| certificate::Fingerprint::of(&own).to_string());
        if own.is_some_and(|own| listed.fingerprints.contains(&own)) {
            self.report.better(format!(
                "{}: the gateway's own certificate for Incus is an admin's too, so its key is in several hands. Now each admin can have their own: `incus remote generate-certificate` makes it, and a table [[admin.clients]] lets it in",
                directive.place
            ));
        }
        for client in listed.clients {
            let is_known = self
                .proxy
                .clients
                .iter()
                .any(|known| known.fingerprint == client.fingerprint);
            if !is_known || client.fingerprint.is_none() {
                self.proxy.clients.push(client);
            }
        }
    }

    fn uncertain(&mut self, problem: String) {
        self.proxy.are_clients_certain = false;
        self.report.missing(format!(
            "{problem}: the tables [[admin.clients]] are commented out. Leave in those whom you mean"
        ));
    }

    /// The gateway has one of each for both ports.
    fn limits(&mut self, tree: &[Directive], parts: &Parts<'_>) {
        let of_servers = |name: &'static str| -> Vec<&Directive> {
            parts
                .incus
                .iter()
                .filter_map(|part| part.server.scope.one(name))
                .collect()
        };
        let duration = |directive: &Directive| units::duration(directive.value());
        self.limit("head", &of_servers("client_header_timeout"), &duration);
        self.limit(
            "head_size",
            &of_servers("large_client_header_buffers"),
            &units::head_size,
        );
        let drains: Vec<_> = tree
            .iter()
            .filter(|directive| directive.is("worker_shutdown_timeout"))
            .collect();
        self.limit("drain", &drains, &duration);
    }

    fn limit(&mut self, key: &'static str, directives: &[&Directive], read: &dyn Fn(&Directive) -> Option<String>) {
        let mut taken: Option<String> = None;
        for directive in directives {
            match (read(directive), &taken) {
                (Some(value), None) => {
                    self.proxy
                        .limits
                        .push((key, Sourced::new(value.clone(), &directive.place)));
                    taken = Some(value);
                }
                (Some(value), Some(taken)) if value == *taken => {}
                (_, taken) => self.report.lost(format!(
                    "{}: `{} {}` is not taken for `limits.{key}`, which {}",
                    directive.place,
                    directive.name,
                    directive.arguments.join(" "),
                    taken
                        .as_ref()
                        .map_or_else(|| "keeps its default".to_owned(), |taken| format!("is {taken} already"))
                )),
            }
        }
    }
}

/// `a.conf:3-17`, from a block's name to its end.
pub(super) fn extent(directive: &Directive) -> String {
    let Place { file, line } = &directive.place;
    let end = directive.block.as_ref().map_or(*line, |block| block.end);
    format!("{}:{line}-{end}", file.display())
}
