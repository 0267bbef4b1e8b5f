//! The `proxy.toml` to be written. Every value has a comment that states its origin.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::access::Access;
use super::report::plain;

/// A value, and the comment that follows it.
#[derive(Clone, Debug)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) comment: String,
}

impl<T> Sourced<T> {
    pub(super) fn new(value: T, comment: impl fmt::Display) -> Self {
        let comment = comment.to_string();
        Self { value, comment }
    }
}

/// The paths of a certificate and its private key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: Sourced<PathBuf>,
    pub(super) key: Sourced<PathBuf>,
}

impl Pair {
    /// Returns whether both name the same files, regardless of their comments.
    fn is(&self, other: &Self) -> bool {
        self.certificate.value == other.certificate.value && self.key.value == other.key.value
    }
}

/// The configuration of one port.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// Empty if Nginx had no such port.
    pub(super) listen: Vec<Sourced<SocketAddr>>,
    pub(super) access: Access,
    pub(super) tls: Option<Pair>,
    /// Whether the port is held back because Nginx restricted access in a way the gateway does not. Until an administrator
    /// decides, the port listens on loopback only.
    pub(super) is_held_back: bool,
    /// A loopback address, for a port that Nginx did not have or that is held back.
    pub(super) stand_in: Option<SocketAddr>,
}

impl Port {
    /// Adds a listen address of Nginx. Overlapping addresses, for which Nginx opens several sockets, are merged into one.
    pub(super) fn add(&mut self, address: SocketAddr, comment: impl fmt::Display) {
        let mut added = Sourced::new(address, comment);
        if self.listen.iter().any(|known| known.value == address) {
            return;
        }
        if let Some(known) = self.listen.iter_mut().find(|known| covers(known.value, address)) {
            known.comment += &format!("; {}", added.comment);
            return;
        }
        let (covered, rest) = self
            .listen
            .drain(..)
            .partition(|known: &Sourced<_>| covers(address, known.value));
        self.listen = rest;
        let comments = covered
            .iter()
            .chain([&added])
            .map(|listen: &Sourced<_>| listen.comment.as_str());
        added.comment = comments.collect::<Vec<_>>().join("; ");
        self.listen.push(added);
    }

    /// Returns the addresses on which the gateway will listen once the port is no longer held back.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self.listen.is_empty() {
            true => self.stand_in.into_iter().collect(),
            false => self.listen.iter().map(|listen| listen.value).collect(),
        }
    }
}

/// Returns whether a listener on `one` also receives the connections to `other`. `[::]` includes IPv4.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip(), other.ip());
    let is_any_of_it = one_ip.is_unspecified() && (one_ip.is_ipv6() || other_ip.is_ipv4());
    one.port() == other.port() && (one_ip == other_ip || is_any_of_it)
}

/// Returns whether two sockets cannot be bound to these addresses at the same time.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// `[[admin.clients]]`
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    /// `None` if the certificate is not available here.
    pub(super) fingerprint: Option<String>,
    pub(super) comment: String,
}

#[derive(Debug, Default)]
pub(super) struct Proxy {
    pub(super) origin: String,
    /// The base of relative file names.
    pub(super) folder: String,
    pub(super) url: Option<Sourced<String>>,
    pub(super) identity: Option<Pair>,
    pub(super) pin: Option<Sourced<PathBuf>>,
    pub(super) public: Port,
    pub(super) admin: Port,
    pub(super) clients: Vec<Client>,
    /// Whether exactly these clients had access through Nginx. Otherwise they are commented out for an administrator to choose.
    pub(super) are_clients_certain: bool,
    /// Keys and values of `[limits]`.
    pub(super) limits: Vec<(&'static str, Sourced<String>)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Made by `incus-gate import-nginx` from {}.", plain(&self.origin))?;
        writeln!(
            f,
            "# The comments say where each value stood, in files named from {} on.\n",
            plain(&self.folder)
        )?;
        match (&self.public.tls, &self.admin.tls) {
            (Some(public), Some(admin)) if !public.is(admin) => {
                pair(f, "[public.tls]", public, ["certificate", "private_key"])?;
                pair(f, "[admin.tls]", admin, ["certificate", "private_key"])?;
            }
            (Some(tls), _) | (None, Some(tls)) => pair(f, "[tls]", tls, ["certificate", "private_key"])?,
            (None, None) => {
                writeln!(f, "[tls]")?;
                placeholder(
                    f,
                    "certificate",
                    "/path/to/fullchain.pem",
                    "the certificate that clients see",
                )?;
                placeholder(f, "private_key", "/path/to/privkey.pem", "its key")?;
                writeln!(f)?;
            }
        }
        self.upstream(f)?;
        writeln!(f, "[public]")?;
        self.public.write(f)?;
        writeln!(
            f,
            "images = \"public\"   # the published ones; what \"all\" shows is in docs/REFERENCE.md\n"
        )?;
        writeln!(f, "[admin]")?;
        self.admin.write(f)?;
        for client in &self.clients {
            self.client(f, client)?;
        }
        if self.clients.is_empty() && !self.admin.listen.is_empty() {
            writeln!(
                f,
                "\n# [[admin.clients]]   # MISSING: a table for each admin; without one, nobody is let in"
            )?;
            writeln!(f, "# name = \"ops\"\n# certificate = \"/path/to/ops.crt\"")?;
        }
        if !self.limits.is_empty() {
            writeln!(f, "\n[limits]")?;
        }
        self.limits
            .iter()
            .try_for_each(|(key, value)| line(f, key, &value.value, &value.comment))
    }
}

impl Proxy {
    fn upstream(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[upstream]")?;
        match &self.url {
            Some(url) => line(f, "url", &url.value, &url.comment)?,
            None => placeholder(
                f,
                "url",
                "https://127.0.0.1:8553",
                "as `incus config get core.https_address` has it",
            )?,
        }
        match &self.identity {
            Some(identity) => pair_keys(f, identity, ["client_certificate", "client_private_key"])?,
            None => {
                placeholder(
                    f,
                    "client_certificate",
                    "/path/to/client.crt",
                    "what the gateway shows to Incus, which must trust it",
                )?;
                placeholder(f, "client_private_key", "/path/to/client.key", "its key")?;
            }
        }
        match &self.pin {
            None if self.url.as_ref().is_some_and(|url| is_loopback(&url.value)) => writeln!(
                f,
                "# server_certificate = \"/var/lib/incus/server.crt\"   # without it, whoever listens there is taken for Incus"
            )?,
            Some(pin) => line(f, "server_certificate", &pin.value.to_string_lossy(), &pin.comment)?,
            None => {
                let meaning = "what Incus must present: a copy of its server.crt (in a cluster: cluster.crt)";
                placeholder(f, "server_certificate", "/path/to/server.crt", meaning)?;
            }
        }
        writeln!(f)
    }

    fn client(&self, f: &mut fmt::Formatter<'_>, client: &Client) -> fmt::Result {
        let mark = if self.are_clients_certain { "" } else { "# " };
        writeln!(f, "\n{mark}[[admin.clients]]   # {}", plain(&client.comment))?;
        writeln!(f, "{mark}name = {}", string(&client.name))?;
        match &client.fingerprint {
            Some(fingerprint) => writeln!(f, "{mark}fingerprint = {}", string(fingerprint)),
            None => writeln!(f, "{mark}certificate = \"/path/to/{}.crt\"   # MISSING", client.name),
        }
    }
}

impl Port {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listen(f)?;
        let Access { allow, deny, proxies } = &self.access;
        for (key, list) in [("allow", allow), ("deny", deny), ("proxy_protocol_from", proxies)] {
            if let Some(Sourced { value, comment }) = list {
                let values: Vec<_> = value.iter().map(|value| string(value)).collect();
                writeln!(f, "{key} = [{}]   # {}", values.join(", "), plain(comment))?;
            }
        }
        Ok(())
    }

    fn listen(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comments: Vec<_> = self.listen.iter().map(|listen| listen.comment.as_str()).collect();
        let sources = comments.join("; ");
        let values: Vec<_> = self
            .addresses()
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        let value = match values.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        if self.listen.is_empty() {
            let comment = "Nginx had no such port: for this machine alone";
            return writeln!(f, "listen = {value}   # {comment}");
        }
        if let Some(stand_in) = self.stand_in {
            let comment = "HELD BACK until you have decided, see below";
            line(f, "listen", &stand_in.to_string(), comment)?;
            return writeln!(
                f,
                "# listen = {value}   # {}, with restrictions that could not be taken over",
                plain(&sources)
            );
        }
        writeln!(f, "listen = {value}   # {}", plain(&sources))
    }
}

fn pair(f: &mut fmt::Formatter<'_>, table: &str, pair: &Pair, keys: [&str; 2]) -> fmt::Result {
    writeln!(f, "{table}")?;
    pair_keys(f, pair, keys)?;
    writeln!(f)
}

fn pair_keys(f: &mut fmt::Formatter<'_>, pair: &Pair, [certificate, key]: [&str; 2]) -> fmt::Result {
    line(
        f,
        certificate,
        &pair.certificate.value.to_string_lossy(),
        &pair.certificate.comment,
    )?;
    line(f, key, &pair.key.value.to_string_lossy(), &pair.key.comment)
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: &str, comment: &str) -> fmt::Result {
    writeln!(f, "{key} = {}   # {}", string(value), plain(comment))
}

fn placeholder(f: &mut fmt::Formatter<'_>, key: &str, example: &str, meaning: &str) -> fmt::Result {
    writeln!(f, "# {key} = \"{example}\"   # MISSING: {meaning}")
}

/// Returns whether the URL leads to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let host = url
        .trim_start_matches("https://")
        .rsplit_once(':')
        .map_or("", |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns a TOML basic string on a single line.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
