//! The networks that may connect.

use std::net::IpAddr;

use crate::cidr::CidrSet;

/// `allow` and `deny` of one port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IpAllowList {
    /// An empty list allows every address.
    pub allow: CidrSet,
    /// Takes precedence over `allow`.
    pub deny: CidrSet,
}

impl IpAllowList {
    /// Returns whether this client may connect. `client` must be the client's own address, not a proxy's, and an IPv4-mapped
    /// IPv6 address must have been converted to IPv4.
    pub fn permits(&self, client: IpAddr) -> bool {
        !self.deny.contain(client) && (self.allow == CidrSet::default() || self.allow.contain(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_overrides_allow_and_an_empty_list_permits_all() {
        let networks = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            CidrSet::parse(&texts).unwrap()
        };
        let permits = |allow: &[&str], deny: &[&str], client: &str| {
            let access = IpAllowList {
                allow: networks(allow),
                deny: networks(deny),
            };
            access.permits(client.parse().unwrap())
        };
        assert!(permits(&[], &[], "192.0.2.1"));
        assert!(permits(&[], &["192.0.2.0/24"], "198.51.100.1"));
        assert!(!permits(&[], &["192.0.2.0/24"], "192.0.2.1"));
        assert!(permits(&["192.0.2.0/24"], &[], "192.0.2.1"));
        assert!(!permits(&["192.0.2.0/24"], &[], "2001:db8::1"));
        assert!(!permits(&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1"));
    }
}
