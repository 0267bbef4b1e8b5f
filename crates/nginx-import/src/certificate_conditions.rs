//! Conditions on a client's certificate beyond its signature: `if` on the `$ssl_client_*` variables, directly or through a
//! `map`. A condition is supported only if every part of it is.
//! `expression` parses the expression of an `if`.

mod expression;

use self::expression::{Comparison, Operator, variable, variables};
use crate::condition::{Condition, Effect};
use crate::directive::Directive;
use crate::locations::{Http, Route};

const VERIFY: &str = "ssl_client_verify";
const FINGERPRINT: &str = "ssl_client_fingerprint";
/// The length of a SHA-1 in hexadecimal digits.
const SHA1: usize = 40;

/// Variables that depend on the client's certificate.
#[derive(Debug)]
pub(crate) struct ClientVariables<'a> {
    maps: Vec<&'a Directive>,
    /// Variables that are also set elsewhere, or by a second map, so that the map alone does not determine their value.
    reassigned: Vec<&'a str>,
}

/// The conditions beyond a valid signature.
#[derive(Debug, Default)]
pub(crate) struct CertificateRequirements<'a> {
    /// SHA-1 fingerprints, as Nginx writes them; empty if there is no condition on the fingerprint.
    pub(crate) fingerprints: Vec<String>,
    /// Conditions that cannot be evaluated here.
    pub(crate) unsupported: Vec<&'a Directive>,
}

/// The clients that one condition admits.
enum Requirement {
    /// Every verified client, which the gateway requires anyway.
    Verified,
    /// Clients with one of these fingerprints.
    Fingerprints(Vec<String>),
    /// Unknown: the condition cannot be evaluated here.
    Unsupported,
}

impl<'a> ClientVariables<'a> {
    /// Collects them from the `map` blocks.
    pub(crate) fn of(http: &Http<'a>) -> Self {
        let depends_on_client = |map: &&Directive| variables(map.value()).any(|name| name.starts_with("ssl_client_"));
        let mut reassigned = Vec::new();
        find_set(http.directives, &mut reassigned);
        let mapped: Vec<_> = http
            .named("map")
            .filter_map(|map| variable(map.arguments.last()?))
            .collect();
        reassigned.extend(
            mapped
                .iter()
                .copied()
                .filter(|name| mapped.iter().filter(|other| other == &name).count() > 1),
        );
        Self {
            maps: http.named("map").filter(depends_on_client).collect(),
            reassigned,
        }
    }

    /// Returns whether a condition depends on the client's certificate.
    pub(crate) fn occur_in(&self, condition: &Directive) -> bool {
        let mut names = condition.arguments.iter().flat_map(|argument| variables(argument));
        names.any(|name| name.starts_with("ssl_client_") || self.map_of(name).is_some())
    }

    /// Collects the conditions that apply to these routes.
    pub(crate) fn requirements(&self, routes: &[Route<'a>]) -> CertificateRequirements<'a> {
        let mut requirements = CertificateRequirements::default();
        let conditions = routes.iter().flat_map(|route| route.conditions());
        for condition in conditions.filter(|condition| self.occur_in(condition.directive)) {
            match self.requirement(&condition) {
                Requirement::Verified => {}
                Requirement::Fingerprints(list) if requirements.fingerprints.is_empty() => {
                    requirements.fingerprints = list;
                }
                Requirement::Fingerprints(list) if requirements.fingerprints == list => {}
                // With several lists, it is not known whether a match in one of them was sufficient.
                Requirement::Fingerprints(_) | Requirement::Unsupported => {
                    requirements.unsupported.push(condition.directive);
                }
            }
        }
        requirements
    }

    fn map_of(&self, name: &str) -> Option<&'a Directive> {
        let assigns = |map: &&&Directive| map.arguments.last().and_then(|to| variable(to)) == Some(name);
        self.maps.iter().find(assigns).copied()
    }

    fn requirement(&self, condition: &Condition<'_>) -> Requirement {
        let comparison =
            Comparison::read(condition).filter(|comparison| !self.reassigned.contains(&comparison.variable.as_str()));
        let Some(comparison) = comparison else {
            return Requirement::Unsupported;
        };
        match (comparison.variable.as_str(), self.map_of(&comparison.variable)) {
            (_, Some(map)) => map_requirement(map, &comparison),
            // A condition that rejects verified clients is not supported.
            (VERIFY, None) if comparison.admits("SUCCESS") == Some(true) => Requirement::Verified,
            (FINGERPRINT, None) if comparison.admits_on_match => match comparison.operator {
                Operator::Equals(wanted) => fingerprint_requirement(vec![wanted]),
                Operator::Matches(alternation) => fingerprint_requirement(alternation.words),
                Operator::NonEmpty => Requirement::Unsupported,
            },
            _ => Requirement::Unsupported,
        }
    }
}

/// Returns whether a condition admits a request for which its only variable has this value.
pub(crate) fn admits(condition: &Condition<'_>, value: &str) -> bool {
    // An unclear effect counts as a rejection.
    let effect = match condition.effect {
        Effect::Admits => Effect::Admits,
        Effect::Rejects | Effect::Unclear => Effect::Rejects,
    };
    let comparison = Comparison::read(&Condition { effect, ..*condition });
    comparison.and_then(|comparison| comparison.admits(value)) == Some(true)
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

/// Evaluates the comparison of a variable that a `map` derives from one other variable.
fn map_requirement(map: &Directive, comparison: &Comparison) -> Requirement {
    let entries = map.children();
    let is_special = |entry: &Directive| ["include", "hostnames", "volatile"].contains(&entry.name.as_str());
    if entries.iter().any(is_special) {
        return Requirement::Unsupported;
    }
    // The keys of a `map` are case-insensitive.
    let value_of = |key: &str| {
        entries
            .iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(key))
            .map(Directive::value)
    };
    let default = comparison.admits(value_of("default").unwrap_or_default());
    match (variable(map.value()), default) {
        (Some(VERIFY), _) if entries.iter().any(|entry| entry.name.starts_with(['~', '\\'])) => {
            Requirement::Unsupported
        }
        (Some(VERIFY), _) => match value_of("SUCCESS").map_or(default, |value| comparison.admits(value)) {
            Some(true) => Requirement::Verified,
            _ => Requirement::Unsupported,
        },
        // With a default that is admitted, the map is a denylist.
        (Some(FINGERPRINT), Some(false)) => {
            let mut list = Vec::new();
            for entry in entries.iter().filter(|entry| entry.name != "default") {
                match comparison.admits(entry.value()) {
                    Some(false) => {}
                    Some(true) => list.push(entry.name.to_ascii_lowercase()),
                    None => return Requirement::Unsupported,
                }
            }
            fingerprint_requirement(list)
        }
        _ => Requirement::Unsupported,
    }
}

/// Accepts SHA-1 fingerprints in Nginx's lower-case form. Anything else matches no certificate, or several.
fn fingerprint_requirement(list: Vec<String>) -> Requirement {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_sha1 = |text: &String| text.len() == SHA1 && text.bytes().all(is_digit);
    match !list.is_empty() && list.iter().all(is_sha1) {
        true => Requirement::Fingerprints(list),
        false => Requirement::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser;

    const ONE: &str = "0123456789abcdef0123456789abcdef01234567";
    const TWO: &str = "1123456789abcdef0123456789abcdef01234567";

    /// Returns how the directives `within` a server are interpreted, with the directives `before` it. ONE and TWO stand for
    /// fingerprints.
    fn interpreted(before: &str, within: &str) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("nginx.conf");
        let text = format!(
            "{before}\nserver {{ listen 1 ssl; ssl_verify_client on; {within}\nlocation / {{ proxy_pass https://127.0.0.1:1; }} }}"
        );
        std::fs::write(&file, text.replace("ONE", ONE).replace("TWO", TWO)).expect("the file can be written");
        let tree = parser::read(&file).expect("a configuration");
        let http = Http::of(&tree, &[]);
        let variables = ClientVariables::of(&http);
        let routes: Vec<_> = http.servers().flat_map(|server| server.routes).collect();
        assert_eq!(routes.len(), 1, "{before} {within}");
        let conditions: Vec<_> = routes[0].conditions().collect();
        if !conditions
            .iter()
            .any(|condition| variables.occur_in(condition.directive))
        {
            return format!("{} not about certificates", conditions.len());
        }
        let requirements = variables.requirements(&routes);
        match (requirements.unsupported.is_empty(), requirements.fingerprints.join(" ")) {
            (false, _) => "other".to_owned(),
            (true, list) if list.is_empty() => "verified".to_owned(),
            (true, list) => list.replace(ONE, "ONE").replace(TWO, "TWO"),
        }
    }

    #[test]
    fn only_fully_understood_conditions_are_supported() {
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
            assert_eq!(interpreted(before, within), expected, "{before} {within}");
        }
    }
}
