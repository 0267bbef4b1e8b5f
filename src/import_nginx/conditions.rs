//! Conditions on a client's certificate beyond its signature: `if` on the `$ssl_client_*` variables, directly or through a
//! `map`. A condition counts as understood only if every part of it is.
//! `expression` parses the expression of an `if`.

mod expression;

use self::expression::{How, Test, variable, variables};
use super::site::{Condition, Effect, Http, Route};
use super::tree::Directive;

const VERIFY: &str = "ssl_client_verify";
const FINGERPRINT: &str = "ssl_client_fingerprint";
/// The length of a SHA-1 in hexadecimal digits.
const SHA1: usize = 40;

/// Variables that depend on the client's certificate.
#[derive(Debug)]
pub(super) struct ClientVariables<'a> {
    maps: Vec<&'a Directive>,
    /// Variables that are also set elsewhere, or by a second map, so that the map alone does not determine their value.
    are_set: Vec<&'a str>,
}

/// The conditions beyond a valid signature.
#[derive(Debug, Default)]
pub(super) struct Demands<'a> {
    /// SHA-1 fingerprints, as Nginx writes them; empty if there is no condition on the fingerprint.
    pub(super) fingerprints: Vec<String>,
    /// Conditions that cannot be evaluated here.
    pub(super) other: Vec<&'a Directive>,
}

/// The clients that one condition admits.
enum Demand {
    /// Every verified client, which the gateway requires anyway.
    Verified,
    /// Clients with one of these fingerprints.
    Fingerprints(Vec<String>),
    /// Unknown: the condition cannot be evaluated here.
    Other,
}

impl<'a> ClientVariables<'a> {
    pub(super) fn of(http: &Http<'a>) -> Self {
        let tells = |map: &&Directive| variables(map.value()).any(|name| name.starts_with("ssl_client_"));
        let mut are_set = Vec::new();
        find_set(http.directives, &mut are_set);
        let mapped: Vec<_> = http
            .named("map")
            .filter_map(|map| variable(map.arguments.last()?))
            .collect();
        are_set.extend(
            mapped
                .iter()
                .copied()
                .filter(|name| mapped.iter().filter(|other| other == &name).count() > 1),
        );
        Self {
            maps: http.named("map").filter(tells).collect(),
            are_set,
        }
    }

    /// Returns whether a condition depends on the client's certificate.
    pub(super) fn are_in(&self, condition: &Directive) -> bool {
        let mut names = condition.arguments.iter().flat_map(|argument| variables(argument));
        names.any(|name| name.starts_with("ssl_client_") || self.map_to(name).is_some())
    }

    /// Collects the conditions that apply to these routes.
    pub(super) fn demands(&self, routes: &[Route<'a>]) -> Demands<'a> {
        let mut demands = Demands::default();
        let conditions = routes.iter().flat_map(|route| route.conditions());
        for condition in conditions.filter(|condition| self.are_in(condition.directive)) {
            match self.demand(&condition) {
                Demand::Verified => {}
                Demand::Fingerprints(listed) if demands.fingerprints.is_empty() => demands.fingerprints = listed,
                Demand::Fingerprints(listed) if demands.fingerprints == listed => {}
                // With several lists, it is not known whether a match in one of them was sufficient.
                Demand::Fingerprints(_) | Demand::Other => demands.other.push(condition.directive),
            }
        }
        demands
    }

    fn map_to(&self, name: &str) -> Option<&'a Directive> {
        let is_its = |map: &&&Directive| map.arguments.last().and_then(|to| variable(to)) == Some(name);
        self.maps.iter().find(is_its).copied()
    }

    fn demand(&self, condition: &Condition<'_>) -> Demand {
        let test = Test::read(condition).filter(|test| !self.are_set.contains(&test.variable.as_str()));
        let Some(test) = test else {
            return Demand::Other;
        };
        match (test.variable.as_str(), self.map_to(&test.variable)) {
            (_, Some(map)) => of_map(map, &test),
            // A condition that rejects verified clients is not supported.
            (VERIFY, None) if test.passes("SUCCESS") == Some(true) => Demand::Verified,
            (FINGERPRINT, None) if test.lets_through_what_fits => match test.how {
                How::Is(wanted) => of_fingerprints(vec![wanted]),
                How::Fits(choice) => of_fingerprints(choice.words),
                How::IsSet => Demand::Other,
            },
            _ => Demand::Other,
        }
    }
}

/// Returns whether a condition admits a request for which its only variable has this value.
pub(super) fn lets_through(condition: &Condition<'_>, value: &str) -> bool {
    // An unclear effect counts as a rejection.
    let effect = match condition.effect {
        Effect::LetsThrough => Effect::LetsThrough,
        Effect::Refuses | Effect::Unclear => Effect::Refuses,
    };
    let test = Test::read(&Condition { effect, ..*condition });
    test.and_then(|test| test.passes(value)) == Some(true)
}

/// Collects the variables that are set in any block.
fn find_set<'a>(directives: &'a [Directive], found: &mut Vec<&'a str>) {
    for directive in directives {
        let name = match directive.name.as_str() {
            "set" => directive.arguments.first(),
            "geo" | "split_clients" => directive.arguments.last(),
            _ => None,
        };
        found.extend(name.and_then(|name| variable(name)));
        find_set(directive.children(), found);
    }
}

/// Evaluates a test of a variable that a `map` derives from one other variable.
fn of_map(map: &Directive, test: &Test) -> Demand {
    let entries = map.children();
    let is_special = |entry: &Directive| ["include", "hostnames", "volatile"].contains(&entry.name.as_str());
    if entries.iter().any(is_special) {
        return Demand::Other;
    }
    // The keys of a `map` are case-insensitive.
    let value_of = |key: &str| {
        entries
            .iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(key))
            .map(Directive::value)
    };
    let default = test.passes(value_of("default").unwrap_or_default());
    match (variable(map.value()), default) {
        (Some(VERIFY), _) if entries.iter().any(|entry| entry.name.starts_with(['~', '\\'])) => Demand::Other,
        (Some(VERIFY), _) => match value_of("SUCCESS").map_or(default, |value| test.passes(value)) {
            Some(true) => Demand::Verified,
            _ => Demand::Other,
        },
        // With a default that passes, the map is a denylist.
        (Some(FINGERPRINT), Some(false)) => {
            let mut listed = Vec::new();
            for entry in entries.iter().filter(|entry| entry.name != "default") {
                match test.passes(entry.value()) {
                    Some(false) => {}
                    Some(true) => listed.push(entry.name.to_ascii_lowercase()),
                    None => return Demand::Other,
                }
            }
            of_fingerprints(listed)
        }
        _ => Demand::Other,
    }
}

/// Accepts SHA-1 fingerprints in Nginx's lower-case form. Anything else matches no certificate, or several.
fn of_fingerprints(listed: Vec<String>) -> Demand {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_sha1 = |text: &String| text.len() == SHA1 && text.bytes().all(is_digit);
    match !listed.is_empty() && listed.iter().all(is_sha1) {
        true => Demand::Fingerprints(listed),
        false => Demand::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::roles::parts;
    use super::super::tree;
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef01234567";
    const TWO: &str = "1123456789abcdef0123456789abcdef01234567";

    /// Returns how the server directives `within`, after the directives `before` the server, are understood. ONE and TWO stand
    /// for fingerprints.
    fn demanded(before: &str, within: &str) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("nginx.conf");
        let text = format!(
            "{before}\nserver {{ listen 1 ssl; ssl_verify_client on; {within}\nlocation / {{ proxy_pass https://127.0.0.1:1; }} }}"
        );
        std::fs::write(&file, text.replace("ONE", ONE).replace("TWO", TWO)).expect("the file can be written");
        let tree = tree::read(&file).expect("a configuration");
        let http = Http::of(&tree, &[]);
        let variables = ClientVariables::of(&http);
        let parts = parts(&http, &variables, None);
        let routes: Vec<_> = parts.incus.into_iter().flat_map(|part| part.admin).collect();
        assert_eq!(routes.len(), 1, "{before} {within}");
        let conditions: Vec<_> = routes[0].conditions().collect();
        if !conditions.iter().any(|condition| variables.are_in(condition.directive)) {
            return format!("{} not about certificates", conditions.len());
        }
        let demands = variables.demands(&routes);
        match (demands.other.is_empty(), demands.fingerprints.join(" ")) {
            (false, _) => "other".to_owned(),
            (true, listed) if listed.is_empty() => "verified".to_owned(),
            (true, listed) => listed.replace(ONE, "ONE").replace(TWO, "TWO"),
        }
    }

    #[test]
    fn only_what_is_read_to_the_letter_is_taken_over() {
        let allowed = "map $ssl_client_fingerprint $ok { default 0; ONE 1; TWO 0; }";
        let revoked = "map $ssl_client_fingerprint $revoked { default 0; ONE 1; }";
        let verified = "map $ssl_client_verify $admin { default 0; SUCCESS 1; }";
        for (before, within, expected) in [
            ("", "if ($ssl_client_verify != SUCCESS) { return 403; }", "verified"),
            ("", "if ($ssl_client_verify = NONE) { return 403; }", "verified"),
            ("", "if ($ssl_client_verify !~ ^SUCCESS$) { return 496; }", "verified"),
            ("", "if ($ssl_client_verify = SUCCESS) { return 403; }", "other"),
            ("", "if ($ssl_client_fingerprint != ONE) { return 403; }", "ONE"),
            ("", "if ($ssl_client_fingerprint != \"ONE\") { return 302 /; }", "ONE"),
            (
                "",
                "if ($ssl_client_fingerprint !~ \"^(ONE|TWO)$\") { return 503; }",
                "ONE TWO",
            ),
            (
                "",
                "if ($ssl_client_fingerprint !~* (?:ONE|TWO)) { rewrite ^ /no permanent; }",
                "ONE TWO",
            ),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { add_header X-No 1; return 204; }",
                "ONE",
            ),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { add_header X-No 1; }",
                "0 not about certificates",
            ),
            // A denylist, or a condition whose admitted clients are unknown.
            ("", "if ($ssl_client_fingerprint = ONE) { break; } return 403;", "other"),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { rewrite ^ /no last; }",
                "other",
            ),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { set $to http://127.0.0.1:1; }",
                "other",
            ),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { set $no 1; return 403; }",
                "other",
            ),
            ("", "if ($ssl_client_fingerprint = ONE) { return 403; }", "other"),
            ("", "if ($ssl_client_fingerprint ~* ONE) { return 403; }", "other"),
            ("", "if ($ssl_client_fingerprint !~ \"^012\") { return 403; }", "other"),
            ("", "if ($ssl_client_fingerprint !~ \"ONE.*\") { return 403; }", "other"),
            ("", "if ($ssl_client_fingerprint) { return 403; }", "other"),
            ("", "if ($ssl_client_s_dn !~ \"CN=ops\") { return 302 /; }", "other"),
            (
                "",
                "if ($ssl_client_fingerprint != ONE) { return 403; } if ($ssl_client_fingerprint != TWO) { return 403; }",
                "other",
            ),
            (allowed, "if ($ok = 0) { return 403; }", "ONE"),
            (allowed, "if ($ok != 1) { return 403; }", "ONE"),
            (allowed, "if (${ok} !~ 1) { return 444; }", "ONE"),
            (allowed, "if ($ok) { return 403; }", "other"),
            (revoked, "if ($revoked) { return 403; }", "other"),
            (revoked, "if ($revoked = 1) { return 403; }", "other"),
            (
                "map $ssl_client_fingerprint $ok { ONE 1; }",
                "if ($ok = \"\") { return 403; }",
                "ONE",
            ),
            (
                "map $ssl_client_fingerprint $ok { default 1; ONE 0; }",
                "if ($ok = 0) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_fingerprint $ok { ~^012 1; }",
                "if ($ok != 1) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_fingerprint $ok { ONE $other; }",
                "if ($ok != 1) { return 403; }",
                "other",
            ),
            (
                "map \"$ssl_client_verify:$ssl_client_s_dn\" $ok { default 0; SUCCESS:CN=ops 1; }",
                "if ($ok = 0) { return 403; }",
                "other",
            ),
            (verified, "if ($admin = 0) { return 403; }", "verified"),
            (verified, "if ($admin) { return 403; }", "other"),
            (
                verified,
                "if ($ssl_client_fingerprint != ONE) { set $admin 0; } if ($admin = 0) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_verify $admin { default 0; SUCCESS 1; } map $ssl_client_s_dn $admin { default 0; CN=ops 1; }",
                "if ($admin = 0) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_verify $admin { default 1; ~SUCC 0; }",
                "if ($admin = 0) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_verify $admin { default 1; success 0; }",
                "if ($admin = 0) { return 403; }",
                "other",
            ),
            (
                "map $ssl_client_verify $admin { default 0; SUCCESS 1; } geo $admin_net { default 0; 10.0.0.0/8 1; }",
                "if ($admin_net = 0) { return 403; }",
                "1 not about certificates",
            ),
            (
                "",
                "if ($request_method = OPTIONS) { return 204; }",
                "0 not about certificates",
            ),
        ] {
            assert_eq!(demanded(before, within), expected, "{before} {within}");
        }
    }
}
