//! Restrictions that go beyond the rules of the two ports. On the route to Incus, only directives known to be harmless are
//! ignored: the gateway must not silently give more access than Nginx did.

use regex_automata::Input;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::util::syntax;

use super::conditions::{ClientVariables, lets_through};
use super::fate::{Fate, fate};
use super::roles::Part;
use super::site::{Condition, Effect, Http, Route};
use super::target::{Paths, is_computed, paths, upstream};
use super::tree::Directive;

/// A directive without an equivalent in the gateway, and the effect that such directives may have had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard<'a> {
    pub(super) directive: &'a Directive,
    pub(super) effect: &'static str,
}

const UNKNOWN: &str = "directives that may have kept requests away, and that the gateway knows nothing of";
const ANSWERS: &str = "answers that came before Incus was asked, and would come no more";
const INTERNAL: &str = "locations that Nginx reached from other locations only, under conditions that stand there";
const REFUSES: &str = "conditions that kept some requests away, and would do so no more";
const REROUTES: &str = "conditions that made something else of some requests, and would do so no more";
const METHODS: &str = "methods that Nginx kept away, and that the gateway lets through";
const REWRITES: &str = "changes to what Incus is asked for, which would be made no more";
const KEPT_PATH: &str = "paths that Nginx kept from people, and that the gateway does not";
const DESTINATIONS: &str = "destinations that variables decided on, so that some requests may not have got to Incus";
const SOME_OF_PUBLIC: &str = "the only paths that Nginx let strangers reach, where the gateway lists every published image and serves each of them";
const SOME_PATHS: &str = "the only paths that Nginx let admins reach, where the gateway gives them all of Incus";

const METHOD: &[&str] = &["$request_method"];

pub(super) fn on_public<'a>(part: &Part<'a>, http: &Http<'a>) -> Vec<Guard<'a>> {
    // Without client certificates, a condition on one has the same result for all clients. The public port accepts GET only.
    let is_understood = |condition: &Condition<'_>| {
        is_moot(condition)
            || is_of_the_one_port(condition.directive, part)
            || is_about(condition.directive, METHOD) && lets_through(condition, "GET")
    };
    let mut found: Vec<_> = part
        .public
        .iter()
        .flat_map(|route| on_both(route, http, is_understood))
        .collect();
    for route in &part.public {
        let takes_get = |block: &&Directive| block.arguments.iter().any(|method| method.eq_ignore_ascii_case("GET"));
        let beside = route
            .scope
            .everywhere("limit_except")
            .filter(|block| !route.is_in(block) && !takes_get(block));
        let around = route.blocks.iter().copied().filter(|block| block.is("limit_except"));
        found.extend(beside.chain(around).map(|directive| Guard {
            directive,
            effect: METHODS,
        }));
    }
    if let Some(route) = part.public.first() {
        let is_reached = |path: &&str| part.public.iter().any(|route| reaches(route, path));
        // Strangers need both paths. With one of them they got only part of the list, or not the images.
        if !STRANGERS_PATHS.iter().all(is_reached) {
            found.push(Guard {
                directive: route.location().unwrap_or(route.pass),
                effect: SOME_OF_PUBLIC,
            });
        }
        find_denied(part, part.server.directive.children(), &["/1.0/images"], &mut found);
    }
    found
}

/// Like [`on_public`], for the admin port, where the gateway allows every path and method of Incus.
pub(super) fn on_admin<'a>(part: &Part<'a>, http: &Http<'a>, variables: &ClientVariables<'_>) -> Vec<Guard<'a>> {
    // `conditions` evaluates the conditions on certificates; methods are checked below.
    let is_understood = |condition: &Condition<'_>| {
        let directive = condition.directive;
        is_moot(condition)
            || is_of_the_one_port(directive, part)
            || is_about(directive, METHOD)
            || variables.are_in(directive)
    };
    let mut found: Vec<_> = part
        .admin
        .iter()
        .flat_map(|route| on_both(route, http, is_understood))
        .collect();
    for route in &part.admin {
        let methods = route.blocks.iter().copied().filter(|block| block.is("limit_except"));
        let methods = methods.chain(route.scope.everywhere("limit_except"));
        let tests = route
            .conditions()
            .map(|condition| condition.directive)
            .filter(|condition| is_about(condition, METHOD));
        found.extend(methods.chain(tests).map(|directive| Guard {
            directive,
            effect: METHODS,
        }));
    }
    if let Some(route) = part.admin.first()
        && !part.admin.iter().any(Route::takes_all)
    {
        let directive = route.location().unwrap_or(route.pass);
        found.push(Guard {
            directive,
            effect: SOME_PATHS,
        });
    } else if !part.admin.is_empty() {
        let all = ["/1.0", "/os", "/ui", "/documentation", "/oidc"];
        find_denied(part, part.server.directive.children(), &all, &mut found);
    }
    found
}

/// Finds locations that match one of these Incus paths but do not lead to Incus.
fn find_denied<'a>(part: &Part<'a>, directives: &'a [Directive], paths: &[&str], found: &mut Vec<Guard<'a>>) {
    for location in directives.iter().filter(|directive| directive.is("location")) {
        let mut routes = part.routes();
        let leads_on = routes.any(|route| route.is_in(location));
        if !leads_on && takes_one_of(location, paths) {
            found.push(Guard {
                directive: location,
                effect: KEPT_PATH,
            });
        }
        find_denied(part, location.children(), paths, found);
    }
}

/// Returns whether a location matches one of these paths or a path below one. `location /` does not count: it gets what other
/// locations leave, which is nothing of Incus's if it does not lead there itself.
fn takes_one_of(location: &Directive, paths: &[&str]) -> bool {
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
const STRANGERS_PATHS: [&str; 2] = [
    "/1.0/images",
    "/1.0/images/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/export",
];

/// Returns whether requests for this Incus path took this route.
fn reaches(route: &Route<'_>, path: &str) -> bool {
    let is_exact = |location: &Directive| location.value() == "=";
    match (paths(route), route.location()) {
        // Reported separately.
        (Paths::Computed, _) => true,
        (Paths::Moved(prefix), Some(location)) if is_exact(location) => path == prefix,
        (Paths::Moved(prefix), _) => path.starts_with(prefix),
        (Paths::Same, None) => true,
        (Paths::Same, Some(location)) => match location.value() {
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

fn on_both<'a>(route: &Route<'a>, http: &Http<'a>, is_understood: impl Fn(&Condition<'_>) -> bool) -> Vec<Guard<'a>> {
    let upstream = upstream(route, http).into_iter().flat_map(Directive::children);
    let mut found: Vec<_> = route
        .scope
        .in_force()
        .into_iter()
        .chain(upstream)
        .filter(|directive| fate(directive) == Fate::Unknown)
        .map(|directive| Guard {
            directive,
            effect: UNKNOWN,
        })
        .collect();
    let internal = route.location().filter(|_| route.is_internal());
    found.extend(internal.map(|directive| Guard {
        directive,
        effect: INTERNAL,
    }));
    // The only built-in variable that changes the request when it is set.
    let sets = route.scope.everywhere("set").filter(|set| set.value() == "$args");
    found.extend(sets.map(|directive| Guard {
        directive,
        effect: REWRITES,
    }));
    if paths(route) == Paths::Computed {
        found.push(Guard {
            directive: route.pass,
            effect: REWRITES,
        });
    }
    if is_computed(route) {
        found.push(Guard {
            directive: route.pass,
            effect: DESTINATIONS,
        });
    }
    found.extend(route.overruled_by().map(|directive| Guard {
        directive,
        effect: ANSWERS,
    }));
    found.extend(route.conditions().filter(|condition| !is_understood(condition)).map(
        |Condition { directive, effect }| Guard {
            directive,
            effect: match effect {
                Effect::LetsThrough | Effect::Refuses => REFUSES,
                Effect::Unclear => REROUTES,
            },
        },
    ));
    found
}

/// Returns whether a condition is irrelevant: the gateway accepts every host name, and only TLS.
fn is_moot(condition: &Condition<'_>) -> bool {
    let is_of_tls =
        |(variable, value): (&str, &str)| is_about(condition.directive, &[variable]) && lets_through(condition, value);
    is_about(condition.directive, &["$host", "$http_host", "$ssl_protocol"])
        || [("$scheme", "https"), ("$https", "on")].into_iter().any(is_of_tls)
}

/// Returns whether a condition is irrelevant because the server has only one port.
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
    let names = condition.arguments.iter().flat_map(|argument| {
        let begins_name = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "_{".contains(c));
        argument.split('$').skip(1).filter(begins_name)
    });
    // A second variable could be controlled by the client.
    variables.contains(&first.trim_end_matches(')')) && names.count() == 1
}
