//! The name under which a browser has reached the public port, for the commands on the page.

use std::fmt;
use std::net::Ipv6Addr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// The remotes that `incus` and `lxc` bring along, and the name of whatever machine the client runs on. `remote add` refuses
/// them, and the next command would ask another server.
const TAKEN_REMOTES: [&str; 7] = [
    "images",
    "local",
    "localhost",
    "ubuntu",
    "ubuntu-daily",
    "ubuntu-minimal",
    "ubuntu-minimal-daily",
];

/// The name, and the port if it is no usual one, under which a browser has found us. It goes into a command that people
/// paste into a shell, so it is plain, or it is not there.
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

    /// What `incus remote add` finds this server by. Where a browser takes 443, it takes 8443.
    pub(super) fn url(&self) -> String {
        let is_usual = self.0.as_ref().is_some_and(|authority| authority.port().is_none());
        format!("https://{self}{}", if is_usual { ":443" } else { "" })
    }

    /// What `incus remote add` may call this server: the first part of its name, unless clients have such a remote already.
    pub(super) fn remote(&self) -> String {
        let host = self.0.as_ref().map_or("", Authority::host).to_ascii_lowercase();
        let label = host.split('.').next().unwrap_or_default();
        let is_name = label.starts_with(|c: char| c.is_ascii_alphabetic()) && !TAKEN_REMOTES.contains(&label);
        (if is_name { label } else { "published" }).to_owned()
    }
}

/// A name or an address, with a port or without, and nothing a shell could take for more.
fn is_plain(authority: &Authority) -> bool {
    let host = authority.host();
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
