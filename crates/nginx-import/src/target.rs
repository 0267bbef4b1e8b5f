//! The target of `proxy_pass`: the Incus server that receives a request.

use crate::directive::Directive;
use crate::locations::{Http, Route};

/// A server behind Nginx.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    /// `https://HOST:PORT`
    pub(crate) url: String,
    /// The position of the directive that contains it.
    pub(crate) position: String,
    /// The other servers of the same `upstream`.
    pub(crate) others: Vec<&'a Directive>,
    /// The `upstream` block.
    pub(crate) upstream: Option<&'a Directive>,
}

/// The relation between the paths of requests and the paths sent to Incus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PathMapping<'a> {
    Unchanged,
    /// The location's prefix is replaced by this one.
    Replaced(&'a str),
    /// The path depends on variables.
    Computed,
}

/// Parses the path that follows the address in a `proxy_pass`.
pub(crate) fn path_mapping<'a>(route: &Route<'a>) -> PathMapping<'a> {
    let rest = strip_scheme(route.pass.value());
    let path = match rest.strip_prefix("unix:") {
        Some(socket) => socket.split_once(':').map_or("", |(_, path)| path),
        // The path begins after the address, which may contain variables.
        None => match rest.find('/') {
            Some(slash) => &rest[slash..],
            None => ORIGINAL_URI
                .into_iter()
                .find(|same| rest.ends_with(same))
                .unwrap_or_default(),
        },
    };
    if path.is_empty() || ORIGINAL_URI.contains(&path) || path == route.pattern() {
        PathMapping::Unchanged
    } else if path.contains(['$', '?']) {
        PathMapping::Computed
    } else {
        PathMapping::Replaced(path)
    }
}

/// Returns whether a route takes every request that no other location takes, or maps its own prefix to all of Incus.
pub(crate) fn covers_all_paths(route: &Route<'_>) -> bool {
    let is_any = matches!(route.pattern(), "/" | "^/" | "^" | ".*" | "^/.*" | "^/.*$" | "^/(.*)$");
    let is_exact = route.blocks.iter().any(|block| block.value() == "=");
    let leads_to_all = match path_mapping(route) {
        PathMapping::Replaced(prefix) => prefix == "/",
        PathMapping::Unchanged | PathMapping::Computed => is_any,
    };
    leads_to_all && !is_exact
}

/// Paths that expand to the original request URI, equivalent to no path.
const ORIGINAL_URI: [&str; 3] = ["$request_uri", "$uri$is_args$args", "$uri?$args"];

/// Parses the `proxy_pass`. Returns an error message if the gateway cannot reach its target.
pub(crate) fn target<'a>(route: &Route<'a>, http: &Http<'a>) -> Result<Target<'a>, String> {
    let text = expand_variables(route);
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(match socket(route, http) {
            Some(path) => format!(
                "`proxy_pass {text}` leads to the unix socket {path}; the gateway reaches Incus over TCP, so give it an address with `incus config set core.https_address=127.0.0.1:8553`"
            ),
            None => format!("`proxy_pass {text}` is not https, and Incus supports nothing else over TCP"),
        });
    };
    let authority = authority(rest);
    if authority.contains('$') {
        return Err(format!(
            "the target of `proxy_pass {text}` is known only when a request arrives"
        ));
    }
    let Some(upstream) = http.upstream(authority) else {
        return Ok(Target {
            url: https_url(authority, 443)?,
            position: route.pass.position.to_string(),
            others: Vec::new(),
            upstream: None,
        });
    };
    let is_backup = |server: &&Directive| {
        server
            .arguments
            .iter()
            .any(|argument| argument == "backup" || argument == "down")
    };
    let servers = || upstream.children().iter().filter(|child| child.is("server"));
    let first = servers().find(|server| !is_backup(server)).or_else(|| servers().next());
    let Some(first) = first else {
        return Err(format!("upstream `{authority}` has no server"));
    };
    Ok(Target {
        // In an `upstream` block, Nginx's default port is 80, whatever the scheme.
        url: https_url(first.value(), 80)?,
        position: first.position.to_string(),
        others: servers().filter(|server| !std::ptr::eq(*server, first)).collect(),
        upstream: Some(upstream),
    })
}

/// Returns the Unix socket that a `proxy_pass` leads to.
pub(crate) fn socket<'a>(route: &Route<'a>, http: &Http<'a>) -> Option<String> {
    let path = |text: &str| {
        let path = text.strip_prefix("unix:")?;
        Some(path.split(':').next().unwrap_or(path).to_owned())
    };
    path(strip_scheme(&expand_variables(route))).or_else(|| {
        upstream(route, http)?
            .children()
            .iter()
            .find_map(|server| path(server.value()))
    })
}

/// Returns whether this is Incus's (or LXD's) own Unix socket, where every client is root.
pub(crate) fn is_incus_socket(socket: &str) -> bool {
    ["/incus/unix.socket", "/lxd/unix.socket"]
        .iter()
        .any(|end| socket.ends_with(end))
}

/// Returns whether the target server depends on variables.
pub(crate) fn is_computed(route: &Route<'_>) -> bool {
    authority(strip_scheme(&expand_variables(route))).contains('$')
}

/// Returns the `upstream` block that requests go through.
pub(crate) fn upstream<'a>(route: &Route<'a>, http: &Http<'a>) -> Option<&'a Directive> {
    http.upstream(authority(strip_scheme(&expand_variables(route))))
}

fn strip_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

/// Returns host and port, up to the path or the variable that contains it.
fn authority(rest: &str) -> &str {
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let same = ORIGINAL_URI.iter().find_map(|same| rest.strip_suffix(same));
    same.filter(|before| before.len() < authority.len())
        .unwrap_or(authority)
}

/// Substitutes variables that `set` defines in the enclosing blocks, a common way to make Nginx resolve names repeatedly.
/// Variables that are unknown or have several values stay.
fn expand_variables(route: &Route<'_>) -> String {
    // Limits for variables that contain themselves; no real configuration comes close.
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
        .on_all_levels("set")
        .filter(is_this)
        .map(|set| set.arguments.get(1));
    match values.next() {
        Some(first) if values.all(|other| other == first) => first.map(String::as_str),
        // The gateway's ports are TLS only, so only requests over TLS are relevant.
        None if name == "scheme" => Some("https"),
        _ => None,
    }
}

/// Parses the URL of Incus. The scheme, the port and a trailing slash are optional; the default port is 8443.
///
/// # Errors
/// Fails if the text has no valid host and port.
pub fn parse_incus_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").unwrap_or(text);
    https_url(authority.strip_suffix('/').unwrap_or(authority), 8443)
}

/// Returns `https://HOST:PORT`, or an error message if `authority` is not a TCP address.
fn https_url(authority: &str, default_port: u16) -> Result<String, String> {
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
        _ => Err(format!("`{authority}` is not an address")),
    }
}
