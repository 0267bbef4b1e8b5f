//! Translation of `allow`, `deny` and `set_real_ip_from` into the address rules of a port.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::directive::Directive;
use crate::locations::Route;
use crate::sourced::Sourced;

/// The address rules of a port.
#[derive(Debug, Default)]
pub(crate) struct AddressRules {
    pub(crate) allow: Option<Sourced<Vec<String>>>,
    pub(crate) deny: Option<Sourced<Vec<String>>>,
    pub(crate) proxies: Option<Sourced<Vec<String>>>,
}

impl AddressRules {
    /// Combines the rules of all routes of a port. Returns an error message if the port's rules cannot express them.
    pub(crate) fn of(routes: &[&Route<'_>], has_proxy: bool) -> Result<Self, String> {
        let mut combined = Self::default();
        if has_proxy {
            combined.proxies = proxies(routes)?;
        }
        let directives: Vec<_> = routes
            .iter()
            .map(|route| route.scope.any_of(&["allow", "deny"]))
            .collect();
        let Some(position) = directives.iter().flatten().map(|rule| &rule.position).next() else {
            return Ok(combined);
        };
        let trusts_header = |route: &&Route<'_>| {
            let is_from_proxy_protocol = has_proxy && route.scope.value("real_ip_header") == Some("proxy_protocol");
            route.scope.first("set_real_ip_from").is_some() && !is_from_proxy_protocol
        };
        if routes.iter().any(trusts_header) {
            return Err(format!(
                "{position}: `allow` and `deny` used addresses from a header, which the gateway does not trust"
            ));
        }
        let mut rules = directives.iter().map(|directives| Rules::read(directives));
        match rules.next().flatten() {
            Some(first) if rules.all(|other| other.as_ref() == Some(&first)) => {
                let sourced = |list: Vec<String>| (!list.is_empty()).then(|| Sourced::new(list, position));
                combined.allow = sourced(first.allow);
                combined.deny = sourced(first.deny);
                Ok(combined)
            }
            _ => Err(format!(
                "{position}: `allow` and `deny` differ from location to location, or are in an order that a port's `allow` and `deny` cannot express"
            )),
        }
    }
}

/// Rules that accept every address that is not denied; if `allow` is not empty, only addresses that are also allowed.
#[derive(Debug, Default, Eq, PartialEq)]
struct Rules {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Rules {
    /// Nginx applies the first matching rule, while the gateway's `deny` takes precedence over its `allow`. The two are
    /// equivalent only for rules in the order deny, allow, deny all.
    fn read(directives: &[&Directive]) -> Option<Self> {
        let mut rules = Self::default();
        for directive in directives {
            match (directive.name.as_str(), directive.value()) {
                ("allow", "all") => break,
                ("deny", "all") if rules.allow.is_empty() => return None,
                ("deny", "all") => return Some(rules),
                ("allow", address) => rules.allow.push(network(address)?),
                (_, address) if rules.allow.is_empty() => rules.deny.push(network(address)?),
                _ => return None,
            }
        }
        // Without a final `deny all`, every address that is not denied is accepted.
        rules.allow.clear();
        Some(rules)
    }
}

fn proxies(routes: &[&Route<'_>]) -> Result<Option<Sourced<Vec<String>>>, String> {
    let directives = routes.iter().flat_map(|route| route.scope.all("set_real_ip_from"));
    let mut proxies: Vec<String> = Vec::new();
    let mut position = None;
    for directive in directives {
        let proxy = network(directive.value())
            .ok_or_else(|| format!("{}: `{}` is not a network", directive.position, directive.value()))?;
        if !proxies.contains(&proxy) {
            proxies.push(proxy);
        }
        position.get_or_insert(&directive.position);
    }
    let position = position
        .ok_or("clients connect through a proxy that speaks the PROXY protocol, and no `set_real_ip_from` names it")?;
    Ok(Some(Sourced::new(proxies, position)))
}

/// Returns the network as the configuration requires it: with all host bits zero.
fn network(text: &str) -> Option<String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    let is_mapped = matches!(network, IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some());
    (!is_mapped).then(|| network.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::directive::Position;

    #[test]
    fn rules_are_translated_where_both_are_equivalent() {
        for (text, expected) in [
            ("deny all", None),
            ("allow all", Some(("", ""))),
            ("allow 192.0.2.1;deny all", Some(("192.0.2.1/32", ""))),
            ("allow 192.0.2.1;allow ::1;deny all", Some(("192.0.2.1/32 ::1/128", ""))),
            (
                "deny 192.0.2.1;allow 192.0.2.0/24;deny all",
                Some(("192.0.2.0/24", "192.0.2.1/32")),
            ),
            ("deny 192.0.2.77/24", Some(("", "192.0.2.0/24"))),
            ("deny 192.0.2.0/24;allow all", Some(("", "192.0.2.0/24"))),
            ("allow 192.0.2.1", Some(("", ""))),
            ("allow 192.0.2.1;deny 192.0.2.0/24", None),
            ("allow 192.0.2.1;deny 192.0.2.0/24;deny all", None),
            ("allow unix:;deny all", None),
            ("deny ::ffff:192.0.2.1", None),
        ] {
            let directives: Vec<_> = text
                .split(';')
                .filter_map(|rule| rule.split_once(' '))
                .map(directive)
                .collect();
            let rules = Rules::read(&directives.iter().collect::<Vec<_>>());
            let rules = rules.map(|rules| (rules.allow.join(" "), rules.deny.join(" ")));
            let rules = rules.as_ref().map(|(allow, deny)| (allow.as_str(), deny.as_str()));
            assert_eq!(rules, expected, "{text}");
        }
    }

    fn directive((name, value): (&str, &str)) -> Directive {
        Directive {
            name: name.to_owned(),
            arguments: vec![value.to_owned()],
            position: Position {
                file: Path::new("a").into(),
                line: 1,
            },
            block: None,
        }
    }
}
