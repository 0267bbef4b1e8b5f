//! `proxy_pass`: which Incus a request goes to.

use super::site::{Http, Route};
use super::tree::{Directive, Place};

/// A server behind Nginx.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    /// `https://HOST:PORT`
    pub(super) url: String,
    /// Where that is written.
    pub(super) place: &'a Place,
    /// Further servers of the same `upstream`.
    pub(super) others: Vec<&'a Directive>,
    /// The `upstream` block.
    pub(super) upstream: Option<&'a Directive>,
}

/// Reads the `proxy_pass`; why not, in words, where it leads to nothing the gateway could reach.
pub(super) fn target<'a>(route: &Route<'a>, http: &Http<'a>) -> Result<Target<'a>, String> {
    let text = resolve(route.pass.value(), route);
    if text.contains('$') {
        return Err(format!(
            "where `proxy_pass {text}` leads is known only when a request comes"
        ));
    }
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(format!(
            "`proxy_pass {text}` is not https, and Incus speaks nothing else over TCP"
        ));
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!("`proxy_pass {text}` changes the paths of requests"));
    }
    let Some(upstream) = http.upstream(authority) else {
        return Ok(Target {
            url: url(authority, 443)?,
            place: &route.pass.place,
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
        place: &first.place,
        others: servers().filter(|server| !std::ptr::eq(*server, first)).collect(),
        upstream: Some(upstream),
    })
}

/// Puts in what one `set` says, the way to have names looked up again and again.
fn resolve(text: &str, route: &Route<'_>) -> String {
    let mut resolved = text.to_owned();
    for set in route.scope.everywhere("set") {
        if let [variable, value] = set.arguments.as_slice()
            && !value.contains('$')
        {
            let name = variable.trim_start_matches('$');
            resolved = resolved.replace(&format!("${{{name}}}"), value);
            let bare = format!("${name}");
            // `$incus` is not the beginning of `$incus_backend`.
            if let Some((before, after)) = resolved.split_once(&bare)
                && !after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
            {
                resolved = format!("{before}{value}{after}");
            }
        }
    }
    resolved
}

fn url(authority: &str, default_port: u16) -> Result<String, String> {
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
