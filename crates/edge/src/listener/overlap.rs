//! Addresses that the kernel does not bind beside each other.

use std::net::SocketAddr;

/// Two `listen` addresses that cannot be bound at the same time.
#[derive(Debug, Eq, PartialEq)]
pub struct Overlap {
    /// Index of the table with the later address.
    pub table: usize,
    /// The later address.
    pub address: SocketAddr,
    /// Index of the table with the earlier address.
    pub other_table: usize,
    /// The earlier address.
    pub other: SocketAddr,
}

/// Returns the first two addresses of these tables that the kernel cannot bind at the same time.
pub fn find_overlap(tables: &[&[SocketAddr]]) -> Option<Overlap> {
    let mut earlier: Vec<(usize, SocketAddr, bool)> = Vec::new();
    for (table, addresses) in tables.iter().enumerate() {
        for address in *addresses {
            let only_v6 = is_only_v6(*address, addresses);
            let overlaps = |(_, other, other_only_v6): &&(usize, SocketAddr, bool)| {
                covers(*address, only_v6, *other) || covers(*other, *other_only_v6, *address)
            };
            if let Some((other_table, other, _)) = earlier.iter().find(overlaps) {
                return Some(Overlap {
                    table,
                    address: *address,
                    other_table: *other_table,
                    other: *other,
                });
            }
            earlier.push((table, *address, only_v6));
        }
    }
    None
}

/// Returns whether a socket bound to `address` also accepts the connections to `other`.
fn covers(address: SocketAddr, only_v6: bool, other: SocketAddr) -> bool {
    // For port 0, the system chooses another port each time.
    if address.port() != other.port() || address.port() == 0 {
        return false;
    }
    address == other
        || address.ip().is_unspecified() && (address.is_ipv4() == other.is_ipv4() || address.is_ipv6() && !only_v6)
}

/// Returns whether an IPv6 socket must not accept IPv4: the table has an IPv4 address with the same port.
pub(super) fn is_only_v6(address: SocketAddr, addresses: &[SocketAddr]) -> bool {
    let is_rival = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    address.is_ipv6() && addresses.iter().any(is_rival)
}
