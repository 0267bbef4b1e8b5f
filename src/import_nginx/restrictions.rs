//! What kept people out beyond the two ports' own rules. Where the gateway would let in more than Nginx did, it must not
//! do so unasked.

use super::conditions::ClientVariables;
use super::roles::Part;
use super::site::{Route, is_refusal};
use super::tree::Directive;

/// A sentence for each, with its place.
pub(super) fn on_public(part: &Part<'_>, variables: &ClientVariables<'_>) -> Vec<String> {
    part.public.iter().flat_map(|route| on_both(route, variables)).collect()
}

/// The same; admins of the gateway have all of Incus, whatever the method.
pub(super) fn on_admin(part: &Part<'_>, variables: &ClientVariables<'_>) -> Vec<String> {
    let mut found: Vec<_> = part.admin.iter().flat_map(|route| on_both(route, variables)).collect();
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
        find_denied(part.server.directive.children(), &mut denied);
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

/// Locations that refuse whoever comes, but for those that Incus has nothing at.
fn find_denied<'a>(directives: &'a [Directive], found: &mut Vec<&'a Directive>) {
    const NOBODYS: [&str; 3] = ["/.", "/favicon.ico", "/robots.txt"];
    for location in directives.iter().filter(|directive| directive.is("location")) {
        let pattern = location.arguments.last().map_or("", String::as_str).replace('\\', "");
        let is_nobodys = NOBODYS
            .iter()
            .any(|path| pattern.trim_start_matches('^').starts_with(path));
        let hands_on = location.children().iter().any(|child| child.is("proxy_pass"));
        if is_refusal(location) && !hands_on && !is_nobodys {
            found.push(location);
        }
        find_denied(location.children(), found);
    }
}

fn on_both(route: &Route<'_>, variables: &ClientVariables<'_>) -> Vec<String> {
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
    for condition in route.conditions().map(|condition| condition.directive) {
        if !is_understood(condition, variables) {
            found.push(format!(
                "{}: the condition `{}` kept some requests away, and would do so no more",
                condition.place,
                condition.arguments.join(" ")
            ));
        }
    }
    found
}

/// About what the gateway has a rule of its own for.
pub(super) fn is_understood(condition: &Directive, variables: &ClientVariables<'_>) -> bool {
    // It answers by whatever name it is asked, over TLS alone.
    const MOOT: [&str; 7] = [
        "$request_method",
        "$host",
        "$http_host",
        "$scheme",
        "$server_port",
        "$ssl_protocol",
        "$https",
    ];
    is_about(condition, &MOOT) || variables.are_in(condition)
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
