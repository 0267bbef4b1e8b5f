//! The `proxy.toml` to be written. Every value has a comment that states its origin.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::address_rules::AddressRules;
use crate::escape::escape_control;
use crate::port::Port;
use crate::sourced::Sourced;

/// The paths of a certificate and its private key.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    pub(crate) certificate: Sourced<PathBuf>,
    pub(crate) key: Sourced<PathBuf>,
}

impl KeyPair {
    /// Returns whether both name the same files, regardless of their comments.
    fn is(&self, other: &Self) -> bool {
        self.certificate.value == other.certificate.value && self.key.value == other.key.value
    }
}

/// The configuration of one port.
#[derive(Debug, Default)]
pub(crate) struct PortConfig {
    /// Empty if Nginx had no such port.
    pub(crate) listen: Vec<Sourced<SocketAddr>>,
    pub(crate) address_rules: AddressRules,
    pub(crate) tls: Option<KeyPair>,
    /// Whether the port is held back because Nginx restricted access in a way the gateway does not. Until an administrator
    /// decides, the port listens on loopback only.
    pub(crate) is_held_back: bool,
    /// A loopback address, for a port that Nginx did not have or that is held back.
    pub(crate) loopback_listen: Option<SocketAddr>,
}

impl PortConfig {
    /// Adds a listen address of Nginx. Overlapping addresses, for which Nginx opens several sockets, are merged into one.
    pub(crate) fn add(&mut self, address: SocketAddr, comment: impl fmt::Display) {
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
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self.listen.is_empty() {
            true => self.loopback_listen.into_iter().collect(),
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
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// `[[admin.clients]]`
#[derive(Debug)]
pub(crate) struct AdminClient {
    pub(crate) name: String,
    /// `None` if the certificate is not available here.
    pub(crate) fingerprint: Option<String>,
    pub(crate) comment: String,
}

#[derive(Debug, Default)]
pub(crate) struct ProxyConfig {
    pub(crate) source_file: String,
    /// The base of relative file names.
    pub(crate) prefix: String,
    pub(crate) upstream_url: Option<Sourced<String>>,
    pub(crate) client_key_pair: Option<KeyPair>,
    pub(crate) pin: Option<Sourced<PathBuf>>,
    pub(crate) public: PortConfig,
    pub(crate) admin: PortConfig,
    pub(crate) clients: Vec<AdminClient>,
    /// Whether exactly these clients had access through Nginx. Otherwise they are commented out for an administrator to choose.
    pub(crate) is_client_list_exact: bool,
    /// Keys and values of `[limits]`.
    pub(crate) limits: Vec<(&'static str, Sourced<String>)>,
}

impl fmt::Display for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Made by `incus-gate import-nginx` from {}.",
            escape_control(&self.source_file)
        )?;
        writeln!(
            f,
            "# The comments name the origin of each value; file names are relative to {}.\n",
            escape_control(&self.prefix)
        )?;
        match (&self.public.tls, &self.admin.tls) {
            (Some(public), Some(admin)) if !public.is(admin) => {
                key_pair(f, "[public.tls]", public, ["certificate", "private_key"])?;
                key_pair(f, "[admin.tls]", admin, ["certificate", "private_key"])?;
            }
            (Some(tls), _) | (None, Some(tls)) => key_pair(f, "[tls]", tls, ["certificate", "private_key"])?,
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
            "images = \"public\"   # published images only; docs/REFERENCE.md explains \"all\"\n"
        )?;
        writeln!(f, "[admin]")?;
        self.admin.write(f)?;
        for client in &self.clients {
            self.client(f, client)?;
        }
        if self.clients.is_empty() && !self.admin.listen.is_empty() {
            writeln!(
                f,
                "\n# [[admin.clients]]   # MISSING: a table for each admin; without one, no client is admitted"
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

impl ProxyConfig {
    pub(crate) fn port_mut(&mut self, port: Port) -> &mut PortConfig {
        match port {
            Port::Admin => &mut self.admin,
            Port::Public => &mut self.public,
        }
    }

    fn upstream(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[upstream]")?;
        match &self.upstream_url {
            Some(upstream_url) => line(f, "url", &upstream_url.value, &upstream_url.comment)?,
            None => placeholder(
                f,
                "url",
                "https://127.0.0.1:8553",
                "see `incus config get core.https_address`",
            )?,
        }
        match &self.client_key_pair {
            Some(client_key_pair) => pair_keys(f, client_key_pair, ["client_certificate", "client_private_key"])?,
            None => {
                placeholder(
                    f,
                    "client_certificate",
                    "/path/to/client.crt",
                    "the certificate that the gateway presents to Incus, which must trust it",
                )?;
                placeholder(f, "client_private_key", "/path/to/client.key", "its key")?;
            }
        }
        match &self.pin {
            None if self.upstream_url.as_ref().is_some_and(|url| is_loopback(&url.value)) => {
                writeln!(
                    f,
                    "# server_certificate = \"/var/lib/incus/server.crt\"   # without it, any server at this address is accepted as Incus"
                )?;
            }
            Some(pin) => line(f, "server_certificate", &pin.value.to_string_lossy(), &pin.comment)?,
            None => {
                let meaning = "what Incus must present: a copy of its server.crt (in a cluster: cluster.crt)";
                placeholder(f, "server_certificate", "/path/to/server.crt", meaning)?;
            }
        }
        writeln!(f)
    }

    fn client(&self, f: &mut fmt::Formatter<'_>, client: &AdminClient) -> fmt::Result {
        let comment_mark = if self.is_client_list_exact { "" } else { "# " };
        writeln!(
            f,
            "\n{comment_mark}[[admin.clients]]   # {}",
            escape_control(&client.comment)
        )?;
        writeln!(f, "{comment_mark}name = {}", string(&client.name))?;
        match &client.fingerprint {
            Some(fingerprint) => writeln!(f, "{comment_mark}fingerprint = {}", string(fingerprint)),
            None => writeln!(
                f,
                "{comment_mark}certificate = \"/path/to/{}.crt\"   # MISSING",
                client.name
            ),
        }
    }
}

impl PortConfig {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listen(f)?;
        let AddressRules { allow, deny, proxies } = &self.address_rules;
        for (key, list) in [("allow", allow), ("deny", deny), ("proxy_protocol_from", proxies)] {
            if let Some(Sourced { value, comment }) = list {
                let values: Vec<_> = value.iter().map(|value| string(value)).collect();
                writeln!(f, "{key} = [{}]   # {}", values.join(", "), escape_control(comment))?;
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
            let comment = "Nginx had no such port: this machine only";
            return writeln!(f, "listen = {value}   # {comment}");
        }
        if let Some(loopback_listen) = self.loopback_listen {
            let comment = "HELD BACK until you decide, see below";
            line(f, "listen", &loopback_listen.to_string(), comment)?;
            return writeln!(
                f,
                "# listen = {value}   # {}, with restrictions that could not be translated",
                escape_control(&sources)
            );
        }
        writeln!(f, "listen = {value}   # {}", escape_control(&sources))
    }
}

fn key_pair(f: &mut fmt::Formatter<'_>, table: &str, key_pair: &KeyPair, keys: [&str; 2]) -> fmt::Result {
    writeln!(f, "{table}")?;
    pair_keys(f, key_pair, keys)?;
    writeln!(f)
}

fn pair_keys(f: &mut fmt::Formatter<'_>, key_pair: &KeyPair, [certificate, key]: [&str; 2]) -> fmt::Result {
    line(
        f,
        certificate,
        &key_pair.certificate.value.to_string_lossy(),
        &key_pair.certificate.comment,
    )?;
    line(f, key, &key_pair.key.value.to_string_lossy(), &key_pair.key.comment)
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: &str, comment: &str) -> fmt::Result {
    writeln!(f, "{key} = {}   # {}", string(value), escape_control(comment))
}

fn placeholder(f: &mut fmt::Formatter<'_>, key: &str, example: &str, meaning: &str) -> fmt::Result {
    writeln!(f, "# {key} = \"{example}\"   # MISSING: {meaning}")
}

/// Returns whether the URL leads to this machine.
pub(crate) fn is_loopback(upstream_url: &str) -> bool {
    let host = upstream_url
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
