//! Restrictions that go beyond the rules of the two ports. On the route to Incus, only directives known to be harmless are
//! ignored: the gateway must not silently give more access than Nginx did.

use regex_automata::Input;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::util::syntax;

use crate::certificate_conditions::{ClientVariables, admits};
use crate::classify::IncusServer;
use crate::condition::{Condition, Effect};
use crate::directive::Directive;
use crate::directive_support::{Support, support};
use crate::locations::{Http, Route};
use crate::target::{PathMapping, covers_all_paths, is_computed, path_mapping, upstream};

/// A directive without an equivalent in the gateway, and the effect that such directives may have had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessCondition<'a> {
    pub(crate) directive: &'a Directive,
    pub(crate) effect: &'static str,
}

const UNKNOWN: &str = "unknown directives that may have rejected requests";
const ANSWERS: &str = "responses that Nginx sent without asking Incus, and that the gateway does not send";
const INTERNAL: &str = "locations that only other locations of Nginx reach, under the conditions there";
const REJECTS: &str = "conditions that rejected some requests, and that the gateway does not have";
const REROUTES: &str = "conditions that changed some requests, and that the gateway does not have";
const METHODS: &str = "methods that Nginx rejected and the gateway allows";
const REWRITES: &str = "changes to the request for Incus, which the gateway does not make";
const DENIED_PATH: &str = "paths that Nginx denied and the gateway allows";
const DESTINATIONS: &str = "destinations that depend on variables, so that some requests may not have reached Incus";
const SOME_OF_PUBLIC: &str =
    "the only paths that strangers could reach, whereas the gateway lists and serves every published image";
const SOME_PATHS: &str = "the only paths that admins could reach, whereas the gateway gives them the full Incus API";

const METHOD: &[&str] = &["$request_method"];

/// Returns the directives that restrict strangers more than the gateway's public port does.
pub(crate) fn on_public<'a>(incus_server: &IncusServer<'a>, http: &Http<'a>) -> Vec<AccessCondition<'a>> {
    // Without client certificates, a condition on one has the same result for all clients. The public port accepts GET only.
    let is_handled = |condition: &Condition<'_>| {
        is_irrelevant(condition)
            || tests_only_port(condition.directive, incus_server)
            || tests_only(condition.directive, METHOD) && admits(condition, "GET")
    };
    let mut found: Vec<_> = incus_server
        .public
        .iter()
        .flat_map(|route| on_both(route, http, is_handled))
        .collect();
    for route in &incus_server.public {
        let lists_get = |block: &&Directive| block.arguments.iter().any(|method| method.eq_ignore_ascii_case("GET"));
        let others = route
            .scope
            .on_all_levels("limit_except")
            .filter(|block| !route.is_inside(block) && !lists_get(block));
        let outer = route.blocks.iter().copied().filter(|block| block.is("limit_except"));
        found.extend(others.chain(outer).map(|directive| AccessCondition {
            directive,
            effect: METHODS,
        }));
    }
    if let Some(route) = incus_server.public.first() {
        let is_reached = |path: &&str| incus_server.public.iter().any(|route| reaches(route, path));
        // Strangers need both paths. With one of them they got only part of the list, or not the images.
        if !PUBLIC_PATHS.iter().all(is_reached) {
            found.push(AccessCondition {
                directive: route.location().unwrap_or(route.pass),
                effect: SOME_OF_PUBLIC,
            });
        }
        find_denied_locations(
            incus_server,
            incus_server.server.directive.children(),
            &["/1.0/images"],
            &mut found,
        );
    }
    found
}

/// Like [`on_public`], for the admin port, where the gateway allows every path and method of Incus.
pub(crate) fn on_admin<'a>(
    incus_server: &IncusServer<'a>,
    http: &Http<'a>,
    variables: &ClientVariables<'_>,
) -> Vec<AccessCondition<'a>> {
    // `certificate_conditions` evaluates the conditions on certificates; methods are checked below.
    let is_handled = |condition: &Condition<'_>| {
        let directive = condition.directive;
        is_irrelevant(condition)
            || tests_only_port(directive, incus_server)
            || tests_only(directive, METHOD)
            || variables.occur_in(directive)
    };
    let mut found: Vec<_> = incus_server
        .admin
        .iter()
        .flat_map(|route| on_both(route, http, is_handled))
        .collect();
    for route in &incus_server.admin {
        let methods = route.blocks.iter().copied().filter(|block| block.is("limit_except"));
        let methods = methods.chain(route.scope.on_all_levels("limit_except"));
        let tests = route
            .conditions()
            .map(|condition| condition.directive)
            .filter(|condition| tests_only(condition, METHOD));
        found.extend(methods.chain(tests).map(|directive| AccessCondition {
            directive,
            effect: METHODS,
        }));
    }
    if let Some(route) = incus_server.admin.first()
        && !incus_server.admin.iter().any(covers_all_paths)
    {
        let directive = route.location().unwrap_or(route.pass);
        found.push(AccessCondition {
            directive,
            effect: SOME_PATHS,
        });
    } else if !incus_server.admin.is_empty() {
        let all = ["/1.0", "/os", "/ui", "/documentation", "/oidc"];
        find_denied_locations(incus_server, incus_server.server.directive.children(), &all, &mut found);
    }
    found
}

/// Finds locations that match one of these Incus paths but do not lead to Incus.
fn find_denied_locations<'a>(
    incus_server: &IncusServer<'a>,
    directives: &'a [Directive],
    paths: &[&str],
    found: &mut Vec<AccessCondition<'a>>,
) {
    for location in directives.iter().filter(|directive| directive.is("location")) {
        let mut routes = incus_server.routes();
        let leads_to_incus = routes.any(|route| route.is_inside(location));
        if !leads_to_incus && covers_any(location, paths) {
            found.push(AccessCondition {
                directive: location,
                effect: DENIED_PATH,
            });
        }
        find_denied_locations(incus_server, location.children(), paths, found);
    }
}

/// Returns whether a location matches one of these paths or a path below one. `location /` does not count: it gets what other
/// locations leave, which is nothing of Incus's if it does not lead there itself.
fn covers_any(location: &Directive, paths: &[&str]) -> bool {
    let pattern = location.arguments.last().map_or("", String::as_str);
    if pattern.starts_with('@') || pattern == "/" {
        return false;
    }
    let takes = |prefix: &str| {
        paths
            .iter()
            .any(|path| path.starts_with(prefix) || prefix.starts_with(path))
    };
    match location.value() {
        // A location for files whose names begin with a dot.
        "~" | "~*" if pattern.starts_with(r"/\.") && !pattern.contains('|') => false,
        "~" | "~*" => paths.iter().any(|path| may_match(location, path, true)),
        _ => takes(pattern),
    }
}

/// Paths that represent what strangers can request. All other responses of the public port contain part of the same list.
const PUBLIC_PATHS: [&str; 2] = [
    "/1.0/images",
    "/1.0/images/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/export",
];

/// Returns whether requests for this Incus path took this route.
fn reaches(route: &Route<'_>, path: &str) -> bool {
    let is_exact = |location: &Directive| location.value() == "=";
    match (path_mapping(route), route.location()) {
        // Reported separately.
        (PathMapping::Computed, _) => true,
        (PathMapping::Replaced(prefix), Some(location)) if is_exact(location) => path == prefix,
        (PathMapping::Replaced(prefix), _) => path.starts_with(prefix),
        (PathMapping::Unchanged, None) => true,
        (PathMapping::Unchanged, Some(location)) => match location.value() {
            "~" | "~*" => may_match(location, path, false),
            "=" => path == route.pattern(),
            _ => path.starts_with(route.pattern()),
        },
    }
}

/// Returns whether a location's regular expression matches the path or, with `below`, any path that begins with it. An
/// expression with look-around, which Nginx supports and this engine does not, is assumed to match with `below` only.
fn may_match(location: &Directive, path: &str, below: bool) -> bool {
    let pattern = location.arguments.last().map_or("", String::as_str);
    let syntax = syntax::Config::new().case_insensitive(location.value() == "~*");
    let Ok(dfa) = DFA::builder().syntax(syntax).build(pattern) else {
        return below;
    };
    let mut cache = dfa.create_cache();
    if !below {
        return dfa
            .try_search_fwd(&mut cache, &Input::new(path))
            .is_ok_and(|end| end.is_some());
    }
    // As long as the state is not dead, further bytes may lead to a match.
    let mut step = || {
        let mut state = dfa.start_state_forward(&mut cache, &Input::new(path)).ok()?;
        for byte in path.bytes() {
            state = dfa.next_state(&mut cache, state, byte).ok()?;
            if state.is_match() {
                return Some(true);
            }
        }
        Some(!state.is_dead())
    };
    step().unwrap_or(true)
}

fn on_both<'a>(
    route: &Route<'a>,
    http: &Http<'a>,
    is_handled: impl Fn(&Condition<'_>) -> bool,
) -> Vec<AccessCondition<'a>> {
    let upstream = upstream(route, http).into_iter().flat_map(Directive::children);
    let mut found: Vec<_> = route
        .scope
        .in_effect()
        .into_iter()
        .chain(upstream)
        .filter(|directive| support(directive) == Support::Unknown)
        .map(|directive| AccessCondition {
            directive,
            effect: UNKNOWN,
        })
        .collect();
    let internal = route.location().filter(|_| route.is_internal());
    found.extend(internal.map(|directive| AccessCondition {
        directive,
        effect: INTERNAL,
    }));
    // The only built-in variable that changes the request when it is set.
    let sets = route.scope.on_all_levels("set").filter(|set| set.value() == "$args");
    found.extend(sets.map(|directive| AccessCondition {
        directive,
        effect: REWRITES,
    }));
    if path_mapping(route) == PathMapping::Computed {
        found.push(AccessCondition {
            directive: route.pass,
            effect: REWRITES,
        });
    }
    if is_computed(route) {
        found.push(AccessCondition {
            directive: route.pass,
            effect: DESTINATIONS,
        });
    }
    found.extend(route.overriding_return().map(|directive| AccessCondition {
        directive,
        effect: ANSWERS,
    }));
    found.extend(route.conditions().filter(|condition| !is_handled(condition)).map(
        |Condition { directive, effect }| AccessCondition {
            directive,
            effect: match effect {
                Effect::Admits | Effect::Rejects => REJECTS,
                Effect::Unclear => REROUTES,
            },
        },
    ));
    found
}

/// Returns whether a condition is irrelevant: the gateway accepts every host name, and only TLS.
fn is_irrelevant(condition: &Condition<'_>) -> bool {
    let is_of_tls =
        |(variable, value): (&str, &str)| tests_only(condition.directive, &[variable]) && admits(condition, value);
    tests_only(condition.directive, &["$host", "$http_host", "$ssl_protocol"])
        || [("$scheme", "https"), ("$https", "on")].into_iter().any(is_of_tls)
}

/// Returns whether a condition is irrelevant because the server has only one port.
fn tests_only_port(condition: &Directive, incus_server: &IncusServer<'_>) -> bool {
    incus_server.server.listens.len() == 1 && tests_only(condition, &["$server_port"])
}

fn tests_only(condition: &Directive, variables: &[&str]) -> bool {
    let first = condition.value().trim_start_matches('(');
    let first = condition
        .arguments
        .iter()
        .map(String::as_str)
        .find(|word| *word != "(")
        .filter(|_| first.is_empty())
        .unwrap_or(first);
    let names = condition.arguments.iter().flat_map(|argument| {
        let begins_name = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "_{".contains(c));
        argument.split('$').skip(1).filter(begins_name)
    });
    // A second variable could be controlled by the client.
    variables.contains(&first.trim_end_matches(')')) && names.count() == 1
}
