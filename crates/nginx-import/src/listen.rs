//! Parser for the addresses of `listen`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::directive::{Directive, Position};

#[derive(Clone, Debug)]
pub(crate) struct Listen<'a> {
    /// `None` for a Unix socket or a host name.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) is_tls: bool,
    /// Whether it is for HTTP/3, over UDP.
    pub(crate) is_quic: bool,
    pub(crate) has_proxy_protocol: bool,
    /// Whether it accepts IPv6 only, which is Nginx's default for an IPv6 address.
    pub(crate) is_v6_only: bool,
    pub(crate) text: &'a str,
    pub(crate) position: &'a Position,
}

impl<'a> Listen<'a> {
    pub(crate) fn parse(directive: &'a Directive) -> Self {
        let has = |name: &str| directive.arguments.iter().skip(1).any(|argument| argument == name);
        let address = parse(directive.value());
        Self {
            address,
            is_tls: has("ssl"),
            is_quic: has("quic"),
            has_proxy_protocol: has("proxy_protocol"),
            is_v6_only: address.is_some_and(|address| address.is_ipv6()) && !has("ipv6only=off"),
            text: directive.value(),
            position: &directive.position,
        }
    }

    /// Returns the default of a server without `listen`.
    pub(crate) fn default_of(server: &'a Directive) -> Self {
        Self {
            address: parse("80"),
            is_tls: false,
            is_quic: false,
            has_proxy_protocol: false,
            is_v6_only: false,
            text: "80",
            position: &server.position,
        }
    }
}

fn parse(text: &str) -> Option<SocketAddr> {
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Ok(port) = text.parse() {
        return Some((ANY, port).into());
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    // The port is optional. `[::]:8554` has already been parsed as a socket address.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, 80),
    };
    let ip = match host {
        "*" => ANY,
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.trim_start_matches('[').trim_end_matches(']').parse().ok()?,
    };
    Some((ip, port).into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_read_as_nginx_reads_them() {
        for (text, expected) in [
            ("8554", Some("0.0.0.0:8554")),
            ("*:8554", Some("0.0.0.0:8554")),
            ("127.0.0.1:8554", Some("127.0.0.1:8554")),
            ("192.0.2.1", Some("192.0.2.1:80")),
            ("localhost:8554", Some("127.0.0.1:8554")),
            ("[::]:8554", Some("[::]:8554")),
            ("[2001:db8::1]", Some("[2001:db8::1]:80")),
            ("unix:/run/x.sock", None),
            ("lxc.example.org:8554", None),
            ("99999", None),
            ("", None),
        ] {
            let found = super::parse(text).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
