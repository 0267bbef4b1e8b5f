//! What kept people out beyond the two ports' own rules. Where the gateway would let in more than Nginx did, it must not
//! do so unasked.

use super::conditions::ClientVariables;
use super::roles::Part;
use super::site::{Condition, Effect, Route, is_refusal};
use super::tree::Directive;

/// A sentence for each, with its place.
pub(super) fn on_public(part: &Part<'_>) -> Vec<String> {
    // Where no certificate is asked for, a condition on one is true of everybody, or of nobody.
    let is_understood = |condition: &Directive| is_moot(condition) || is_of_the_one_port(condition, part);
    let on_route = |route| on_both(route, is_understood);
    part.public.iter().flat_map(on_route).collect()
}

/// The same; admins of the gateway have all of Incus, whatever the method.
pub(super) fn on_admin(part: &Part<'_>, variables: &ClientVariables<'_>) -> Vec<String> {
    let is_understood = |condition: &Directive| {
        is_moot(condition) || is_of_the_one_port(condition, part) || variables.are_in(condition)
    };
    let on_route = |route| on_both(route, is_understood);
    let mut found: Vec<_> = part.admin.iter().flat_map(on_route).collect();
    for route in &part.admin {
        let methods = route.blocks.iter().copied().filter(|block| block.is("limit_except"));
        let methods = methods.chain(route.scope.everywhere("limit_except"));
        let tests = route
            .conditions()
            .map(|condition| condition.directive)
            .filter(|condition| is_about(condition, &["$request_method"]));
        found.extend(methods.chain(tests).map(|directive| {
            format!(
                "{}: admins would have every method, where Nginx let some through only",
                directive.place
            )
        }));
    }
    if let Some(route) = part.admin.first()
        && !part.admin.iter().any(Route::takes_all)
    {
        found.push(format!(
            "{}: admins would get all of Incus, where Nginx let them reach some paths only, such as `{}`",
            route.pass.place,
            route.pattern()
        ));
    } else if !part.admin.is_empty() {
        let mut denied = Vec::new();
        find_denied(part, part.server.directive.children(), &mut denied);
        found.extend(denied.into_iter().map(|location| {
            format!(
                "{}: admins would get all of Incus, where Nginx kept `{}` from them",
                location.place,
                location.arguments.join(" ")
            )
        }));
    }
    found
}

/// Locations that do not lead to Incus: all of its own paths, and others that refuse whoever comes, but for those that it has
/// nothing at.
fn find_denied<'a>(part: &Part<'_>, directives: &'a [Directive], found: &mut Vec<&'a Directive>) {
    const NOBODYS: [&str; 3] = ["/.", "/favicon.ico", "/robots.txt"];
    for location in directives.iter().filter(|directive| directive.is("location")) {
        let pattern = location.arguments.last().map_or("", String::as_str).replace('\\', "");
        let is_nobodys = NOBODYS
            .iter()
            .any(|path| pattern.trim_start_matches('^').starts_with(path));
        let is_closed = location.children().iter().any(|child| child.is("internal"));
        let is_of_incus = pattern.trim_start_matches(['^', '(']).starts_with("/1.0");
        let mut routes = part.public.iter().chain(&part.admin);
        let hands_on = routes.any(|route| route.is_in(location));
        if is_closed || !hands_on && (is_of_incus || is_refusal(location) && !is_nobodys) {
            found.push(location);
        }
        find_denied(part, location.children(), found);
    }
}

fn on_both(route: &Route<'_>, is_understood: impl Fn(&Directive) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["auth_basic", "auth_jwt", "auth_request", "secure_link"] {
        if let Some(directive) = route.scope.one(name)
            && directive.value() != "off"
        {
            found.push(format!(
                "{}: the gateway knows no `{name}`: nobody would be asked for that",
                directive.place
            ));
        }
    }
    if let Some(answer) = route.overruled_by() {
        found.push(format!(
            "{}: `return {}` answered before Incus was asked, and would do so no more",
            answer.place,
            answer.arguments.join(" ")
        ));
    }
    for Condition { directive, effect } in route.conditions() {
        if !is_understood(directive) {
            found.push(format!(
                "{}: the condition `{}` {}, and would do so no more",
                directive.place,
                directive.arguments.join(" "),
                match effect {
                    Effect::LetsThrough | Effect::Refuses => "kept some requests away",
                    Effect::Unclear => "made something else of some requests",
                }
            ));
        }
    }
    found
}

/// About what makes no difference here: the gateway answers by whatever name it is asked, over TLS alone.
pub(super) fn is_moot(condition: &Directive) -> bool {
    const MOOT: [&str; 6] = [
        "$request_method",
        "$host",
        "$http_host",
        "$scheme",
        "$ssl_protocol",
        "$https",
    ];
    is_about(condition, &MOOT)
}

/// Likewise, where all come to the same port.
fn is_of_the_one_port(condition: &Directive, part: &Part<'_>) -> bool {
    part.server.listens.len() == 1 && is_about(condition, &["$server_port"])
}

fn is_about(condition: &Directive, variables: &[&str]) -> bool {
    let first = condition.value().trim_start_matches('(');
    let first = condition
        .arguments
        .iter()
        .map(String::as_str)
        .find(|word| *word != "(")
        .filter(|_| first.is_empty())
        .unwrap_or(first);
    variables.contains(&first.trim_end_matches(')'))
}
