//! Coverage of all directives: one that no other module has interpreted is reported here, with its line.

use crate::access_conditions::AccessCondition;
use crate::classify::{IncusServer, Servers};
use crate::directive::Directive;
use crate::directive_support::{Support, support};
use crate::locations::{Http, is_rejection};
use crate::report::Report;

/// Reports every directive that nothing else has reported or interpreted.
pub(crate) fn report_all(
    tree: &[Directive],
    http: &Http<'_>,
    servers: &Servers<'_>,
    access_conditions: &[AccessCondition<'_>],
    report: &mut Report,
) {
    let coverage = Coverage {
        access_conditions,
        servers,
    };
    if http.has_http_block {
        for directive in tree.iter().filter(|directive| !directive.is("http")) {
            coverage.outside(directive, report);
        }
    }
    for directive in http.directives {
        match directive.name.as_str() {
            "server" => coverage.server(directive, report),
            "upstream" => coverage.upstream(directive, report),
            "map" | "geo" | "split_clients" => coverage.variable(directive, report),
            _ => coverage.directive(directive, report),
        }
    }
}

struct Coverage<'a> {
    /// Directives that hold a port back. They have already been reported.
    access_conditions: &'a [AccessCondition<'a>],
    servers: &'a Servers<'a>,
}

impl Coverage<'_> {
    /// Handles a directive outside the `http` block.
    fn outside(&self, directive: &Directive, report: &mut Report) {
        match directive.name.as_str() {
            "mail" | "stream" => report.unsupported_for(directive, "not HTTP, and stays with Nginx"),
            _ => self.directive(directive, report),
        }
    }

    fn server(&self, server: &Directive, report: &mut Report) {
        let is_this = |other: &Directive| std::ptr::eq(other, server);
        if let Some(incus_server) = self
            .servers
            .incus
            .iter()
            .find(|incus_server| is_this(incus_server.server.directive))
        {
            for directive in server.children() {
                match directive.is("location") {
                    true => self.location(directive, incus_server, report),
                    false => self.directive(directive, report),
                }
            }
        } else if let Some(other) = self.servers.others.iter().find(|other| is_this(other.directive)) {
            let names: Vec<_> = other.names().collect();
            let listens: Vec<_> = other.listens.iter().map(|listen| listen.text).collect();
            report.unsupported(format!(
                "{}: the server `{}` on {} does not lead to Incus, and stays with Nginx",
                server.position,
                names.join(" "),
                listens.join(", ")
            ));
        }
    }

    fn upstream(&self, upstream: &Directive, report: &mut Report) {
        let target = self.servers.target.as_ref().and_then(|target| target.upstream);
        if target.is_some_and(|target| std::ptr::eq(target, upstream)) {
            self.all(upstream.children(), report);
        } else {
            report.unsupported_for(
                upstream,
                "upstreams that the gateway does not use, and that stay with Nginx",
            );
        }
    }

    /// Handles a `map` or similar block. It is relevant only if Incus's servers use its variable.
    fn variable(&self, map: &Directive, report: &mut Report) {
        let variable = map.arguments.last().map_or("", String::as_str);
        let is_used = self
            .servers
            .incus
            .iter()
            .any(|incus_server| uses(incus_server.server.directive, variable));
        if map.value() == "$http_upgrade" {
            report.not_needed("Connection upgrades are proxied automatically", map);
        } else if is_used && !map.value().contains("ssl_client_") {
            report.unsupported_for(map, "not understood");
        }
    }

    fn all(&self, directives: &[Directive], report: &mut Report) {
        for directive in directives {
            self.directive(directive, report);
        }
    }

    fn directive(&self, directive: &Directive, report: &mut Report) {
        if self.is_reported(directive) {
            return;
        }
        match directive.name.as_str() {
            "proxy_set_header" if !is_common_header(directive.value()) => {
                return report.unsupported_for(directive, "headers that the gateway does not set");
            }
            "proxy_set_header" => {
                return report.not_needed(
                    "Requests are forwarded with their own headers, except those that impersonate another client",
                    directive,
                );
            }
            _ => {}
        }
        match support(directive) {
            Support::Interpreted => self.all(directive.children(), report),
            Support::NotNeeded(reason) => report.not_needed(reason, directive),
            Support::Unsupported(reason) => report.unsupported_for(directive, reason),
            Support::Unknown => report.unsupported_for(directive, "not understood"),
        }
    }

    fn is_reported(&self, directive: &Directive) -> bool {
        self.access_conditions
            .iter()
            .any(|access_condition| std::ptr::eq(access_condition.directive, directive))
    }

    fn location(&self, location: &Directive, incus_server: &IncusServer<'_>, report: &mut Report) {
        if incus_server.routes().any(|route| route.is_inside(location)) {
            for directive in location.children() {
                match directive.is("location") {
                    true => self.location(directive, incus_server, report),
                    false => self.directive(directive, report),
                }
            }
        } else if !is_rejection(location) && !self.is_reported(location) {
            report.unsupported_for(
                location,
                "locations that do not lead to Incus, and that the gateway does not serve. Let Nginx serve them on another port (Certbot's challenges use port 80)",
            );
        }
    }
}

/// Returns whether Incus or its clients interpret the header, or proxies commonly add it.
fn is_common_header(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    let exact = [
        "host",
        "upgrade",
        "connection",
        "forwarded",
        "origin",
        "accept-encoding",
        "early-data",
    ];
    let prefixes = [
        "x-forwarded-",
        "x-real-",
        "x-original-",
        "ssl-client-",
        "x-ssl-",
        "x-client-",
    ];
    exact.contains(&header.as_str()) || prefixes.iter().any(|prefix| header.starts_with(prefix))
}

fn uses(directive: &Directive, variable: &str) -> bool {
    let bare_word = variable.trim_start_matches('$');
    let is_inside = |text: &String| text.contains(variable) || text.contains(&format!("${{{bare_word}}}"));
    directive.arguments.iter().any(is_inside) || directive.children().iter().any(|child| uses(child, variable))
}
