//! What may have kept people out beyond the two ports' own rules. Only what is known to be harmless is passed over on the way
//! to Incus: where the gateway would let in more than Nginx did, it must not do so unasked.

use regex_automata::Input;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::util::syntax;

use super::conditions::{ClientVariables, lets_through};
use super::fate::{Fate, fate};
use super::roles::Part;
use super::site::{Condition, Effect, Http, Route};
use super::target::{Paths, is_computed, paths, upstream};
use super::tree::Directive;

/// A directive that the gateway has no equivalent of, and what such directives may have done.
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
    // Where no certificate is asked for, a condition on one is true of everybody, or of nobody. The port knows GET alone.
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
        // Both list and images, or it was not the whole list that strangers got, or not the images.
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

/// The same; admins of the gateway have all of Incus, whatever the method.
pub(super) fn on_admin<'a>(part: &Part<'a>, http: &Http<'a>, variables: &ClientVariables<'_>) -> Vec<Guard<'a>> {
    // Conditions on certificates are held against those, and methods are looked at below.
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

/// Locations that take one of these paths of Incus's, and do not lead there.
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

/// Whether a location gets requests for one of these paths, or for what is below them. `location /` gets what others leave,
/// which is nothing of Incus's where it does not lead there itself.
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
        // Files that begin with a dot.
        "~" | "~*" if pattern.starts_with(r"/\.") && !pattern.contains('|') => false,
        "~" | "~*" => paths.iter().any(|path| may_match(location, path, true)),
        _ => takes(pattern),
    }
}

/// What strangers get of the gateway: all else that it answers is part of the list.
const STRANGERS_PATHS: [&str; 2] = [
    "/1.0/images",
    "/1.0/images/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/export",
];

/// Whether requests for one of Incus's paths got there this way.
fn reaches(route: &Route<'_>, path: &str) -> bool {
    let is_exact = |location: &Directive| location.value() == "=";
    match (paths(route), route.location()) {
        // Judged on its own.
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

/// Whether a location's regular expression matches a path; or, `below`, some path that begins with it. What is none here is
/// one of Nginx's that looks ahead or behind: it is taken to match whatever is `below`, and nothing else.
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
    // As long as any of its states is alive, more may follow that matches.
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
    // The one variable of Nginx's own that says what is asked for.
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

/// About what makes no difference here: the gateway answers by whatever name it is asked, over TLS alone.
fn is_moot(condition: &Condition<'_>) -> bool {
    let is_of_tls =
        |(variable, value): (&str, &str)| is_about(condition.directive, &[variable]) && lets_through(condition, value);
    is_about(condition.directive, &["$host", "$http_host", "$ssl_protocol"])
        || [("$scheme", "https"), ("$https", "on")].into_iter().any(is_of_tls)
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
    let names = condition.arguments.iter().flat_map(|argument| {
        let begins_name = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "_{".contains(c));
        argument.split('$').skip(1).filter(begins_name)
    });
    // What it is compared with may be a client's word.
    variables.contains(&first.trim_end_matches(')')) && names.count() == 1
}
