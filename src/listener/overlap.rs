//! Addresses that the kernel does not bind beside each other.

use std::net::SocketAddr;

/// An address of a table's `listen` that cannot be bound while the other table's is.
#[derive(Debug, Eq, PartialEq)]
pub struct Overlap {
    /// The index of the table that has it, among those that were given.
    pub table: usize,
    /// The address.
    pub address: SocketAddr,
    /// The index of the table that has the other.
    pub other_table: usize,
    /// The other address.
    pub other: SocketAddr,
}

/// Returns the first two addresses of some tables that the kernel does not bind beside each other.
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

/// Whether a socket bound to `address` takes the connections to `other`, too.
fn covers(address: SocketAddr, only_v6: bool, other: SocketAddr) -> bool {
    // The system chooses another port each time that it is asked for any.
    if address.port() != other.port() || address.port() == 0 {
        return false;
    }
    address == other
        || address.ip().is_unspecified() && (address.is_ipv4() == other.is_ipv4() || address.is_ipv6() && !only_v6)
}

/// Next to an IPv4 address of the same port and table, an IPv6 one must not take IPv4 as well.
pub(super) fn is_only_v6(address: SocketAddr, addresses: &[SocketAddr]) -> bool {
    let is_rival = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    address.is_ipv6() && addresses.iter().any(is_rival)
}
