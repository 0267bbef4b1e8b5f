//! Every directive is accounted for: what no other module has read is named here, with its line.

use super::conditions::ClientVariables;
use super::fate::{Fate, fate};
use super::report::{Report, lines};
use super::restrictions::is_moot;
use super::roles::Parts;
use super::site::{Http, is_refusal};
use super::tree::Directive;

pub(super) fn for_all(
    tree: &[Directive],
    http: &Http<'_>,
    parts: &Parts<'_>,
    variables: &ClientVariables<'_>,
    report: &mut Report,
) {
    let account = Account { variables, parts };
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
    variables: &'a ClientVariables<'a>,
    parts: &'a Parts<'a>,
}

impl Account<'_> {
    /// Beside `http`.
    fn outside(&self, directive: &Directive, report: &mut Report) {
        match directive.name.as_str() {
            "mail" | "stream" => report.lost(format!(
                "{}: `{}` is not about HTTP, and stays with Nginx",
                directive.place, directive.name
            )),
            _ => self.one(directive, report),
        }
    }

    fn server(&self, server: &Directive, report: &mut Report) {
        let is_this = |other: &Directive| std::ptr::eq(other, server);
        if self.parts.incus.iter().any(|part| is_this(part.server.directive)) {
            self.all(server.children(), report);
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
            report.lost(format!(
                "{}: the upstream `{}` is not the gateway's, and stays with Nginx",
                upstream.place,
                upstream.value()
            ));
        }
    }

    /// A `map` and the like: of interest only where Incus's servers use its variable.
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
            report.lost(format!(
                "{}: `{} {}` is not understood",
                map.place,
                map.name,
                map.arguments.join(" ")
            ));
        }
    }

    fn all(&self, directives: &[Directive], report: &mut Report) {
        for directive in directives {
            self.one(directive, report);
        }
    }

    fn one(&self, directive: &Directive, report: &mut Report) {
        let place = &directive.place;
        let arguments = directive.arguments.join(" ");
        let name = directive.name.as_str();
        match name {
            "location" => return self.location(directive, report),
            // Those that refuse and are not understood are restrictions.
            "if" if is_refusal(directive) || is_moot(directive) || self.variables.are_in(directive) => {}
            "if" => report.lost(format!("{place}: the condition `{arguments}` is not understood")),
            "return" if directive.value().starts_with('4') => return,
            "return" => {
                return report.lost(format!(
                    "{place}: the gateway gives no answers of its own, such as `return {arguments}`"
                ));
            }
            "set" if self.is_in_a_target(directive.value()) => return,
            "set" => return report.lost(format!("{place}: `set {arguments}` is not understood")),
            "proxy_set_header" if !is_usual(directive.value()) => {
                return report.lost(format!(
                    "{place}: the gateway sets no headers but the usual ones, so not `{arguments}`"
                ));
            }
            "proxy_set_header" => {
                return report.needless(
                    "Requests go to Incus with their own headers; those that speak for somebody else are dropped",
                    directive,
                );
            }
            _ => {}
        }
        match fate(name) {
            Fate::Read => self.all(directive.children(), report),
            Fate::Needless(reason) => report.needless(reason, directive),
            Fate::Lost(loss) => report.lost(format!("{place}: `{name} {arguments}`: {loss}")),
            Fate::Unknown => report.lost(match &directive.block {
                Some(_) => format!("{place}: the block `{name}` is not understood, and left out whole"),
                None => format!(
                    "{place}: `{}` is not understood",
                    format!("{name} {arguments}").trim_end()
                ),
            }),
        }
    }

    /// Whether a `proxy_pass` of Incus's has this variable.
    fn is_in_a_target(&self, variable: &str) -> bool {
        let routes = self.parts.incus.iter().flat_map(|part| &part.server.routes);
        variable.starts_with('$') && routes.into_iter().any(|route| uses(route.pass, variable))
    }

    fn location(&self, location: &Directive, report: &mut Report) {
        let has = |name: &str| contains(location, name);
        let does_nothing_else = is_refusal(location) || has("proxy_pass") || has("return");
        if !does_nothing_else {
            report.lost(format!(
                "{}: what `location {}` answers comes from Nginx itself; the gateway serves no files. Let Nginx serve it on another port (Certbot's challenges come to port 80)",
                location.place,
                location.arguments.join(" ")
            ));
        }
        self.all(location.children(), report);
    }
}

/// What Incus or its clients make something of, and what proxies usually add.
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

fn contains(directive: &Directive, name: &str) -> bool {
    directive
        .children()
        .iter()
        .any(|child| child.is(name) || contains(child, name))
}

fn uses(directive: &Directive, variable: &str) -> bool {
    let bare = variable.trim_start_matches('$');
    let is_in = |text: &String| text.contains(variable) || text.contains(&format!("${{{bare}}}"));
    directive.arguments.iter().any(is_in) || directive.children().iter().any(|child| uses(child, variable))
}

/// For messages that speak of several at once.
pub(super) fn together<'a>(directives: impl Iterator<Item = &'a Directive>) -> String {
    lines(&directives.map(|directive| directive.place.clone()).collect::<Vec<_>>())
}
