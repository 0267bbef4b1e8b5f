//! Checks that query Incus.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edge::upstream::{Target, Upstream, UpstreamConfig};
use edge::worker;

use super::finding::Finding;
use crate::config::Config;
use crate::server_info::ServerInfo;

/// How long to wait for Incus's response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Queries Incus and evaluates the response.
pub(super) fn ask(config: &Config) -> Vec<Finding> {
    let what = format!("Incus at {}", config.upstream.url);
    let about = match fetch(&config.upstream) {
        Ok(about) => about,
        Err(problem) => return vec![Finding::fail(&what, &problem)],
    };
    if !about.is_trusted {
        let problem =
            "does not trust upstream.client_certificate; run `incus config trust add-certificate` with that file";
        return vec![Finding::fail(&what, problem)];
    }
    let mut findings = vec![Finding::ok(&what, "available, and trusts upstream.client_certificate")];
    findings.extend(way_around(&config.upstream, "core.https_address", &about.core_address));
    findings.extend(way_around(
        &config.upstream,
        "cluster.https_address",
        &about.cluster_address,
    ));
    findings
}

fn fetch(config: &UpstreamConfig) -> Result<ServerInfo, String> {
    let runtime = worker::runtime().map_err(|error| error.to_string())?;
    let upstream = Upstream::new(Arc::new(Target::new(config, Arc::default())));
    let about = runtime.block_on(async { ServerInfo::fetch(&upstream, PATIENCE).await });
    about.map_err(|error| error.to_string())
}

/// Returns a finding if clients can bypass the gateway. A client that reaches Incus directly needs only Incus's trust, not an
/// entry in admin.clients.
fn way_around(config: &UpstreamConfig, key: &str, address: &str) -> Option<Finding> {
    let what = format!("Incus's {key}");
    match Reach::of(address)? {
        Reach::ThisMachine => Some(Finding::ok(
            &what,
            &format!("{address:?}: clients cannot bypass the gateway"),
        )),
        Reach::OneNetwork if !is_this_machine(&config.host) => Some(Finding::ok(
            &what,
            &format!("{address:?}; allow only this machine in its firewall"),
        )),
        _ if key != "core.https_address" => Some(Finding::warn(
            &what,
            &format!(
                "{address:?}: clients that can connect to it bypass the gateway; allow only the cluster in a firewall"
            ),
        )),
        _ => Some(Finding::warn(
            &what,
            &format!(
                "{address:?}: clients that can connect to it bypass the gateway; run `incus config set \
                 core.https_address={}` there, or allow only the gateway in a firewall",
                config.authority
            ),
        )),
    }
}

/// From where an address that Incus listens on is reachable.
#[derive(Debug, Eq, PartialEq)]
enum Reach {
    ThisMachine,
    OneNetwork,
    Everywhere,
}

impl Reach {
    /// Parses an address as Incus does: a host or an IP address, with or without a port, with or without brackets; an empty
    /// host means all addresses. Returns `None` if Incus does not listen.
    fn of(address: &str) -> Option<Self> {
        if address.is_empty() {
            return None;
        }
        let host = match address.parse::<IpAddr>() {
            Ok(_) => address,
            Err(_) if address.ends_with(']') => address,
            Err(_) => address.rsplit_once(':').map_or(address, |(host, _)| host),
        };
        let host = host.trim_matches(['[', ']']);
        Some(match host.parse::<IpAddr>() {
            _ if is_this_machine(host) => Self::ThisMachine,
            Ok(ip) if !ip.to_canonical().is_unspecified() => Self::OneNetwork,
            Err(_) if !host.is_empty() => Self::OneNetwork,
            _ => Self::Everywhere,
        })
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_classified() {
        for address in [
            "127.0.0.1:8553",
            "127.0.0.1",
            "[::1]:8443",
            "::1",
            "localhost:8443",
            "127.8.8.8:1",
        ] {
            assert_eq!(Reach::of(address), Some(Reach::ThisMachine), "{address}");
        }
        for address in [":8443", "[::]:8443", "::", "0.0.0.0:8443", "0.0.0.0", "[::]"] {
            assert_eq!(Reach::of(address), Some(Reach::Everywhere), "{address}");
        }
        for address in [
            "192.0.2.1:8443",
            "2001:db8::1",
            "[2001:db8::1]:8443",
            "incus.example.org:8443",
        ] {
            assert_eq!(Reach::of(address), Some(Reach::OneNetwork), "{address}");
        }
        assert_eq!(Reach::of(""), None);
    }
}
