//! `proxy_pass`: which Incus a request goes to.

use super::site::{Http, Route};
use super::tree::Directive;

/// A server behind Nginx.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    /// `https://HOST:PORT`
    pub(super) url: String,
    /// Where that is written.
    pub(super) place: String,
    /// Further servers of the same `upstream`.
    pub(super) others: Vec<&'a Directive>,
    /// The `upstream` block.
    pub(super) upstream: Option<&'a Directive>,
}

/// The paths that Incus is asked for, compared with those of the requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paths<'a> {
    Same,
    /// The location's prefix becomes this one.
    Moved(&'a str),
    /// Variables decide.
    Computed,
}

/// Reads the path that follows the address in a `proxy_pass`.
pub(super) fn paths<'a>(route: &Route<'a>) -> Paths<'a> {
    let rest = behind_scheme(route.pass.value());
    let path = match rest.strip_prefix("unix:") {
        Some(socket) => socket.split_once(':').map_or("", |(_, path)| path),
        // After the address, of which variables may be a part.
        None => match rest.find('/') {
            Some(slash) => &rest[slash..],
            None => SAME.into_iter().find(|same| rest.ends_with(same)).unwrap_or_default(),
        },
    };
    if path.is_empty() || SAME.contains(&path) || path == route.pattern() {
        Paths::Same
    } else if path.contains(['$', '?']) {
        Paths::Computed
    } else {
        Paths::Moved(path)
    }
}

/// What stands for the whole of what is asked for, as if nothing stood there.
const SAME: [&str; 3] = ["$request_uri", "$uri$is_args$args", "$uri?$args"];

/// Reads the `proxy_pass`; why not, in words, where it leads to nothing the gateway could reach.
pub(super) fn target<'a>(route: &Route<'a>, http: &Http<'a>) -> Result<Target<'a>, String> {
    let text = resolve(route);
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(match socket(route, http) {
            Some(path) => format!(
                "`proxy_pass {text}` leads to the unix socket {path}; the gateway reaches Incus over TCP, so give it an address with `incus config set core.https_address=127.0.0.1:8553`"
            ),
            None => format!("`proxy_pass {text}` is not https, and Incus speaks nothing else over TCP"),
        });
    };
    let authority = authority(rest);
    if authority.contains('$') {
        return Err(format!(
            "where `proxy_pass {text}` leads is known only when a request comes"
        ));
    }
    let Some(upstream) = http.upstream(authority) else {
        return Ok(Target {
            url: url(authority, 443)?,
            place: route.pass.place.to_string(),
            others: Vec::new(),
            upstream: None,
        });
    };
    let is_spare = |server: &&Directive| {
        server
            .arguments
            .iter()
            .any(|argument| argument == "backup" || argument == "down")
    };
    let servers = || upstream.children().iter().filter(|child| child.is("server"));
    let first = servers().find(|server| !is_spare(server)).or_else(|| servers().next());
    let Some(first) = first else {
        return Err(format!("upstream `{authority}` has no server"));
    };
    Ok(Target {
        // Nginx's default here is 80, whatever the scheme.
        url: url(first.value(), 80)?,
        place: first.place.to_string(),
        others: servers().filter(|server| !std::ptr::eq(*server, first)).collect(),
        upstream: Some(upstream),
    })
}

/// The unix socket that a `proxy_pass` leads to.
pub(super) fn socket<'a>(route: &Route<'a>, http: &Http<'a>) -> Option<String> {
    let path = |text: &str| {
        let path = text.strip_prefix("unix:")?;
        Some(path.split(':').next().unwrap_or(path).to_owned())
    };
    path(behind_scheme(&resolve(route))).or_else(|| {
        upstream(route, http)?
            .children()
            .iter()
            .find_map(|server| path(server.value()))
    })
}

/// Whether a unix socket is one on which Incus takes everybody for root.
pub(super) fn is_of_incus(socket: &str) -> bool {
    ["/incus/unix.socket", "/lxd/unix.socket"]
        .iter()
        .any(|end| socket.ends_with(end))
}

/// Whether variables decide which server a request goes to.
pub(super) fn is_computed(route: &Route<'_>) -> bool {
    authority(behind_scheme(&resolve(route))).contains('$')
}

/// The `upstream` block that requests go through.
pub(super) fn upstream<'a>(route: &Route<'a>, http: &Http<'a>) -> Option<&'a Directive> {
    http.upstream(authority(behind_scheme(&resolve(route))))
}

fn behind_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

/// Host and port, up to the path or the variable that stands for it.
fn authority(rest: &str) -> &str {
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let same = SAME.iter().find_map(|same| rest.strip_suffix(same));
    same.filter(|before| before.len() < authority.len())
        .unwrap_or(authority)
}

/// Puts in what `set` says in the blocks around it, the way to have names looked up again and again. What is not clear, or
/// said twice, stays.
fn resolve(route: &Route<'_>) -> String {
    // More than anybody writes, should one be made of itself.
    const ROUNDS: usize = 8;
    const LONGEST: usize = 4_096;
    let mut text = route.pass.value().to_owned();
    for _ in 0..ROUNDS {
        let mut resolved = String::new();
        let mut pieces = text.split('$');
        resolved += pieces.next().unwrap_or_default();
        for piece in pieces {
            if resolved.len() > LONGEST {
                return text;
            }
            let inner = piece.strip_prefix('{').unwrap_or(piece);
            let end = inner
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(inner.len());
            let (name, rest) = inner.split_at(end);
            match value(name, route) {
                Some(value) => {
                    let is_braced = inner.len() < piece.len();
                    resolved += value;
                    resolved += rest.strip_prefix('}').filter(|_| is_braced).unwrap_or(rest);
                }
                None => {
                    resolved.push('$');
                    resolved += piece;
                }
            }
        }
        if resolved == text {
            break;
        }
        text = resolved;
    }
    text
}

fn value<'a>(name: &str, route: &Route<'a>) -> Option<&'a str> {
    let is_this = |set: &&Directive| set.value().strip_prefix('$') == Some(name);
    let mut values = route
        .scope
        .everywhere("set")
        .filter(is_this)
        .map(|set| set.arguments.get(1));
    match values.next() {
        Some(first) if values.all(|other| other == first) => first.map(String::as_str),
        // The gateway's ports have TLS, and only what comes over TLS is compared.
        None if name == "scheme" => Some("https"),
        _ => None,
    }
}

/// `https://HOST:PORT`, if that is what an address amounts to.
pub(super) fn url(authority: &str, default_port: u16) -> Result<String, String> {
    if authority.starts_with("unix:") {
        return Err(format!(
            "`{authority}` is a unix socket; the gateway reaches Incus over TCP, so give it an address with `incus config set core.https_address=127.0.0.1:8553`"
        ));
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        && !authority.ends_with(']');
    let authority = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:{default_port}")
    };
    let url = format!("https://{authority}");
    match url.parse::<http::Uri>() {
        Ok(parsed) if parsed.port_u16().is_some() && !authority.contains('@') => Ok(url),
        _ => Err(format!("`{authority}` is no address")),
    }
}
