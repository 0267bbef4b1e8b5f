//! The name under which a browser has reached the public port, for the commands on the page.

use std::fmt;
use std::net::Ipv6Addr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// Remotes that `incus` and `lxc` predefine, and the host name of the client's own machine. `remote add` rejects these
/// names, and the next command would then contact another server.
const TAKEN_REMOTES: [&str; 7] = [
    "images",
    "local",
    "localhost",
    "ubuntu",
    "ubuntu-daily",
    "ubuntu-minimal",
    "ubuntu-minimal-daily",
];

/// Host name under which the browser reached the gateway, with the port unless it is the default. It is part of a
/// command that users paste into a shell, so a name with unsafe characters is dropped.
#[derive(Clone, Debug)]
pub(super) struct Host(Option<Authority>);

impl Host {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let authority = match request.uri().authority() {
            Some(authority) => Some(authority.clone()),
            None => request
                .headers()
                .get(HOST)
                .and_then(|host| host.to_str().ok()?.parse().ok()),
        };
        Self(authority.filter(is_plain))
    }

    /// Returns the URL for `incus remote add`. It names port 443 explicitly: without a port, browsers use 443 but
    /// `incus` uses 8443.
    pub(super) fn url(&self) -> String {
        let is_usual = self.0.as_ref().is_some_and(|authority| authority.port().is_none());
        format!("https://{self}{}", if is_usual { ":443" } else { "" })
    }

    /// Returns the remote's name for `incus remote add`: the first label of the host name, or `published` if clients
    /// may already have such a remote.
    pub(super) fn remote(&self) -> String {
        let host = self.0.as_ref().map_or("", Authority::host).to_ascii_lowercase();
        let label = host.split('.').next().unwrap_or_default();
        let is_name = label.starts_with(|c: char| c.is_ascii_alphabetic()) && !TAKEN_REMOTES.contains(&label);
        (if is_name { label } else { "published" }).to_owned()
    }
}

/// Maximum length of a host and its port, in bytes: a DNS name has at most 253. The page repeats both for every image.
const MAX_HOST: usize = 260;

/// Checks for a host name or address with an optional port, without characters special to a shell.
fn is_plain(authority: &Authority) -> bool {
    let host = authority.host();
    if authority.as_str().len() > MAX_HOST {
        return false;
    }
    let is_name = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
    is_host && authority.as_str().strip_prefix(host) == Some(&port)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(authority) => authority.fmt(f),
            None => f.write_str("THIS-SERVER"),
        }
    }
}
