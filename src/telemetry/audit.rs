//! The audit log: which admin has changed what, from where, and who was refused.
//!
//! A request is told of when its answer begins, not when it ends: a shell may be open for days.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::access::method;
use super::exchange::Exchange;
use super::mask::masked;
use crate::identity::{NotAnAdmin, Peer, PeerCertificate};

/// Its lines are known by this name, and no level turns them off.
pub const TARGET: &str = "incus_gate::audit";

/// So often a client is told of in each [`PERIOD`], and the rest as a number.
const MAX_REFUSALS: u32 = 10;
const PERIOD: Duration = Duration::from_mins(1);
/// So many clients are told apart in a period.
const MAX_CLIENTS: usize = 1_000;

/// Tells of an admin's request that may change something or opens a tunnel, once it is known what comes of it. Only methods
/// that are known to read are left out.
pub(super) fn record(exchange: &Exchange) {
    let Some(admin) = exchange.admin() else { return };
    let is_tunnel = exchange.status() == Some(StatusCode::SWITCHING_PROTOCOLS);
    if !is_tunnel && matches!(*exchange.method(), Method::GET | Method::HEAD) {
        return;
    }
    tracing::info!(
        target: TARGET,
        admin = %admin,
        client = %exchange.client().peer.address,
        method = %method(exchange),
        path = &*masked(exchange.uri()),
        status = exchange.status().map(|status| status.as_u16()),
        operation = exchange.operation().map(display),
        "{}", if is_tunnel { "tunnel" } else { "request" }
    );
}

/// Who was refused for their certificate, on one worker.
#[derive(Debug, Default)]
pub struct Refusals(RefCell<HashMap<IpAddr, Recent>>);

#[derive(Debug)]
struct Recent {
    since: Instant,
    times: u32,
}

impl Refusals {
    /// Tells of one, unless this client, or a crowd, has been told of often enough.
    pub fn record(&self, peer: &Peer, certificate: &PeerCertificate, why: &NotAnAdmin) {
        let mut recent = self.0.borrow_mut();
        let mut network = network(peer.address.ip());
        if recent.len() >= MAX_CLIENTS && !recent.contains_key(&network) {
            // All others are one.
            network = Ipv6Addr::UNSPECIFIED.into();
        }
        let recent = recent.entry(network).or_insert_with(|| Recent {
            since: Instant::now(),
            times: 0,
        });
        recent.times = recent.times.saturating_add(1);
        if recent.times <= MAX_REFUSALS {
            tracing::info!(
                target: TARGET,
                client = %peer.address,
                subject = certificate.subject(),
                fingerprint = %certificate.fingerprint(),
                "refused: {why}"
            );
        }
    }

    /// Tells of those who were refused more often, when their time is over.
    pub fn tell(&self) {
        self.tell_older_than(PERIOD);
    }

    fn tell_older_than(&self, period: Duration) {
        self.0.borrow_mut().retain(|network, recent| {
            let is_over = recent.since.elapsed() >= period;
            let untold = recent.times.saturating_sub(MAX_REFUSALS);
            if is_over && untold > 0 {
                tracing::info!(
                    target: TARGET,
                    times = untold,
                    network = %told(*network),
                    "refused more often than is told"
                );
            }
            !is_over
        });
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        self.tell_older_than(Duration::ZERO);
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn told(network: IpAddr) -> String {
    match network {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) if address.is_unspecified() => "many".to_owned(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}
