//! Translation of Nginx's tree into `proxy.toml`, and into the report of the differences.

mod admins;
mod ports;

use std::path::{Path, PathBuf};

use edge::tls::{certificate, read_certificate};

use super::account;
use super::better;
use super::clients::absolute;
use super::conditions::ClientVariables;
use super::proxy::{Pair, Proxy, Sourced, is_loopback};
use super::report::{Outcome, Report};
use super::roles::{Part, Parts, is_socket_of_incus, parts};
use super::site::{Http, Route, Scope};
use super::steps;
use super::target::{self, Paths, paths};
use super::tree::{Directive, Place};
use super::{Incus, units};

/// What the machine provides outside of Nginx's files.
#[derive(Debug)]
pub(super) struct Machine {
    /// Nginx's configuration prefix, the base of relative paths.
    pub(super) prefix: PathBuf,
    pub(super) incus: Incus,
}

/// Translates the tree. `main` is the tree of the nginx.conf that includes the file, if it is another file.
pub(super) fn translate(
    tree: &[Directive],
    main: &[Directive],
    file: &Path,
    machine: &Machine,
) -> (Proxy, Report, Outcome) {
    let http = Http::of(tree, main);
    let variables = ClientVariables::of(&http);
    let parts = parts(&http, &variables, machine.incus.url.as_deref());
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
        translation.nothing(file, &http, &parts);
    }
    translation.upstream(&http, &parts);
    let guards = translation.ports(&http, &parts, &variables);
    translation.clients(&parts, &variables);
    translation.limits(tree, &parts);
    let Translation { proxy, mut report, .. } = translation;
    account::for_all(tree, &http, &parts, &guards, &mut report);
    if !http.is_whole && main.is_empty() && !parts.incus.is_empty() {
        report.lost(format!(
            "{} is part of a configuration: what nginx.conf has around it, rules of access included, was not read. Give nginx.conf to have it looked at",
            file.display()
        ));
    }
    better::say(&http, &parts, &variables, &proxy, &mut report);
    steps::say(&parts, &proxy, &mut report);
    let outcome = match report.is_complete() {
        _ if parts.incus.is_empty() => Outcome::Nothing,
        true => Outcome::Complete,
        false => Outcome::Incomplete,
    };
    (proxy, report, outcome)
}

struct Translation<'m> {
    machine: &'m Machine,
    proxy: Proxy,
    report: Report,
}

impl Translation<'_> {
    /// Reports that nothing appears to lead to Incus.
    fn nothing(&mut self, file: &Path, http: &Http<'_>, parts: &Parts<'_>) {
        self.report.missing(format!(
            "{}: no server here was recognised as one that leads to Incus: none asks clients for a certificate, has one to show behind it, or has a location for `/1.0`{}",
            file.display(),
            if http.is_whole { "" } else { ". If it is part of a larger configuration, give its nginx.conf" }
        ));
        for route in parts.others.iter().flat_map(|server| &server.routes) {
            if let Ok(target) = target::target(route, http) {
                let text = format!(
                    "leads to {url}. If that is Incus, run this again with `--incus {url}`",
                    url = target.url
                );
                self.report.missing_of(route.pass, &text);
            } else if target::is_computed(route) {
                let text =
                    "leads where variables say. If that is Incus, run this again with `--incus https://HOST:PORT`";
                self.report.missing_of(route.pass, text);
            }
        }
    }

    fn upstream<'a>(&mut self, http: &Http<'a>, parts: &Parts<'a>) {
        for part in &parts.incus {
            for route in part.public.iter().filter(|route| is_socket_of_incus(route, http)) {
                self.report.open_now(
                    route.pass,
                    "whoever gets here is root on this machine, for Incus takes all that comes to its unix socket for root, and no certificate is asked for. Close this port first of all",
                );
            }
            for route in part.routes() {
                if let Paths::Moved(prefix) = paths(route) {
                    self.report.lost(format!(
                        "{}: `{}` became `{prefix}` on the way to Incus; the gateway has Incus's own paths, without a prefix. Remotes and links that have it are to be changed",
                        route.pass.place,
                        route.pattern()
                    ));
                }
            }
        }
        for problem in &parts.problems {
            self.report.lost(problem.clone());
        }
        match &parts.target {
            Some(target) => {
                self.proxy.url = Some(Sourced::new(target.url.clone(), &target.place));
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
            None => self
                .report
                .missing("where Incus is: `upstream.url`; `--incus URL` says it".to_owned()),
        }
        let routes = || parts.incus.iter().flat_map(Part::routes);
        let with_certificate = routes().find(|route| route.scope.one("proxy_ssl_certificate").is_some());
        if let Some(route) = with_certificate {
            self.proxy.identity = self.pair(&route.scope, ["proxy_ssl_certificate", "proxy_ssl_certificate_key"]);
        }
        if self.proxy.identity.is_none() && !parts.incus.is_empty() {
            self.report.missing(
                "what the gateway shows to Incus: `upstream.client_certificate` and its key. Make both, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -noenc -days 3650 -subj /CN=incus-gate -keyout client.key -out client.crt`, and have Incus trust the certificate: `incus config trust add-certificate client.crt`".to_owned(),
            );
        }
        self.pin(routes().next());
    }

    /// Chooses the pin. Nginx verifies Incus's certificate against a CA, if at all; the gateway requires the exact certificate.
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
        // In a cluster, clients see the cluster's certificate.
        let own = ["cluster.crt", "server.crt"]
            .map(|name| self.machine.incus.folder.join(name))
            .into_iter()
            .find(|path| path.exists());
        match own {
            Some(own) if is_here => self.proxy.pin = Some(Sourced::new(own, "Incus's own, on this machine")),
            _ if is_here => self.report.lost(format!(
                "Incus's own certificate is not at {}, so whoever listens at that address of this machine is taken for Incus: set `upstream.server_certificate`",
                self.machine.incus.folder.join("server.crt").display()
            )),
            _ if self.proxy.url.is_some() => self.report.missing(
                "how to know Incus on another machine: copy its server.crt (in a cluster: cluster.crt) here, and name it in `upstream.server_certificate`".to_owned(),
            ),
            _ => {}
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

    /// Translates the limits. The gateway has one value of each for both ports.
    fn limits(&mut self, tree: &[Directive], parts: &Parts<'_>) {
        let of_servers = |name: &'static str| -> Vec<&Directive> {
            parts
                .incus
                .iter()
                .filter_map(|part| part.server.scope.one(name))
                .collect()
        };
        let duration = |directive: &Directive| units::duration(directive.value());
        self.limit("header_timeout", &of_servers("client_header_timeout"), &duration);
        self.limit(
            "max_header_size",
            &of_servers("large_client_header_buffers"),
            &units::head_size,
        );
        self.limit("idle_timeout", &of_servers("keepalive_timeout"), &duration);
        let drains: Vec<_> = tree
            .iter()
            .filter(|directive| directive.is("worker_shutdown_timeout"))
            .collect();
        self.limit("drain_timeout", &drains, &duration);
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

/// Returns the lines of a block, such as `a.conf:3-17`.
pub(super) fn extent(directive: &Directive) -> String {
    let Place { file, line } = &directive.place;
    let end = directive.block.as_ref().map_or(*line, |block| block.end);
    format!("{}:{line}-{end}", file.display())
}
