//! Accounting for every directive: one that no other module has interpreted is reported here, with its line.

use super::fate::{Fate, fate};
use super::report::{Report, lines};
use super::restrictions::Guard;
use super::roles::{Part, Parts};
use super::site::{Http, is_refusal};
use super::tree::Directive;

pub(super) fn for_all(
    tree: &[Directive],
    http: &Http<'_>,
    parts: &Parts<'_>,
    guards: &[Guard<'_>],
    report: &mut Report,
) {
    let account = Account { guards, parts };
    if http.is_whole {
        for directive in tree.iter().filter(|directive| !directive.is("http")) {
            account.outside(directive, report);
        }
    }
    for directive in http.directives {
        match directive.name.as_str() {
            "server" => account.server(directive, report),
            "upstream" => account.upstream(directive, report),
            "map" | "geo" | "split_clients" => account.variable(directive, report),
            _ => account.one(directive, report),
        }
    }
}

struct Account<'a> {
    /// Directives that hold a port back. They have already been reported.
    guards: &'a [Guard<'a>],
    parts: &'a Parts<'a>,
}

impl Account<'_> {
    /// Handles a directive outside the `http` block.
    fn outside(&self, directive: &Directive, report: &mut Report) {
        match directive.name.as_str() {
            "mail" | "stream" => report.lost_of(directive, "not about HTTP, and stays with Nginx"),
            _ => self.one(directive, report),
        }
    }

    fn server(&self, server: &Directive, report: &mut Report) {
        let is_this = |other: &Directive| std::ptr::eq(other, server);
        if let Some(part) = self.parts.incus.iter().find(|part| is_this(part.server.directive)) {
            for directive in server.children() {
                match directive.is("location") {
                    true => self.location(directive, part, report),
                    false => self.one(directive, report),
                }
            }
        } else if let Some(other) = self.parts.others.iter().find(|other| is_this(other.directive)) {
            let names: Vec<_> = other.names().collect();
            let listens: Vec<_> = other.listens.iter().map(|listen| listen.text).collect();
            report.lost(format!(
                "{}: the server `{}` on {} is not Incus's, and stays with Nginx",
                server.place,
                names.join(" "),
                listens.join(", ")
            ));
        }
    }

    fn upstream(&self, upstream: &Directive, report: &mut Report) {
        let target = self.parts.target.as_ref().and_then(|target| target.upstream);
        if target.is_some_and(|target| std::ptr::eq(target, upstream)) {
            self.all(upstream.children(), report);
        } else {
            report.lost_of(upstream, "upstreams that are not the gateway's, and stay with Nginx");
        }
    }

    /// Handles a `map` or similar block. It is relevant only if Incus's servers use its variable.
    fn variable(&self, map: &Directive, report: &mut Report) {
        let variable = map.arguments.last().map_or("", String::as_str);
        let is_used = self
            .parts
            .incus
            .iter()
            .any(|part| uses(part.server.directive, variable));
        if map.value() == "$http_upgrade" {
            report.needless("Upgrades of connections go through by themselves", map);
        } else if is_used && !map.value().contains("ssl_client_") {
            report.lost_of(map, "not understood");
        }
    }

    fn all(&self, directives: &[Directive], report: &mut Report) {
        for directive in directives {
            self.one(directive, report);
        }
    }

    fn one(&self, directive: &Directive, report: &mut Report) {
        if self.holds_back(directive) {
            return;
        }
        match directive.name.as_str() {
            "proxy_set_header" if !is_usual(directive.value()) => {
                return report.lost_of(directive, "headers that the gateway does not set");
            }
            "proxy_set_header" => {
                return report.needless(
                    "Requests go to Incus with their own headers; those that speak for somebody else are dropped",
                    directive,
                );
            }
            _ => {}
        }
        match fate(directive) {
            Fate::Read => self.all(directive.children(), report),
            Fate::Needless(reason) => report.needless(reason, directive),
            Fate::Lost(loss) => report.lost_of(directive, loss),
            Fate::Unknown => report.lost_of(directive, "not understood"),
        }
    }

    fn holds_back(&self, directive: &Directive) -> bool {
        self.guards.iter().any(|guard| std::ptr::eq(guard.directive, directive))
    }

    fn location(&self, location: &Directive, part: &Part<'_>, report: &mut Report) {
        if part.routes().any(|route| route.is_in(location)) {
            for directive in location.children() {
                match directive.is("location") {
                    true => self.location(directive, part, report),
                    false => self.one(directive, report),
                }
            }
        } else if !is_refusal(location) && !self.holds_back(location) {
            report.lost_of(
                location,
                "locations that do not lead to Incus, and that the gateway does not have. Let Nginx serve them on another port (Certbot's challenges come to port 80)",
            );
        }
    }
}

/// Returns whether Incus or its clients interpret the header, or proxies commonly add it.
fn is_usual(header: &str) -> bool {
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
    let bare = variable.trim_start_matches('$');
    let is_in = |text: &String| text.contains(variable) || text.contains(&format!("${{{bare}}}"));
    directive.arguments.iter().any(is_in) || directive.children().iter().any(|child| uses(child, variable))
}

/// Returns the places of several directives, for a message about all of them.
pub(super) fn together<'a>(directives: impl Iterator<Item = &'a Directive>) -> String {
    lines(&directives.map(|directive| directive.place.clone()).collect::<Vec<_>>())
}
