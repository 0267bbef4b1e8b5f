//! Lists of networks in the configuration.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks. IPv4 addresses must be compared as such, not as IPv4-mapped IPv6 addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CidrSet(Vec<IpNet>);

impl CidrSet {
    /// Parses `"192.0.2.0/24"`, `"2001:db8::/32"`, `"192.0.2.1"`.
    ///
    /// # Errors
    /// Returns a message that names the first invalid entry.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        texts
            .iter()
            .map(|text| network(text))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns whether one of the networks contains the address.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether one of the networks contains every address of its family.
    pub fn contain_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| {
            format!("`{text}` is not a network; write a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address")
        })?,
    };
    if network.trunc() != network {
        let whole = network.trunc();
        return Err(format!(
            "`{text}` has host bits set; write \"{whole}\" for the network, or the address without a prefix length"
        ));
    }
    match network {
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => Err(format!(
            "`{text}` is an IPv4-mapped IPv6 address; write it as an IPv4 address"
        )),
        network => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CidrSet, String> {
        CidrSet::parse(&[text.to_owned()])
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        let networks = parse("192.0.2.1").unwrap();
        assert!(networks.contain([192, 0, 2, 1].into()));
        assert!(!networks.contain([192, 0, 2, 2].into()));
        assert!(!networks.contain_everybody());
        let networks = parse("2001:db8::/32").unwrap();
        assert!(networks.contain("2001:db8::1".parse().unwrap()));
        assert!(!networks.contain("2001:db9::1".parse().unwrap()));
        assert!(!networks.contain([192, 0, 2, 1].into()));
        assert!(!CidrSet::default().contain([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_zero_prefix_contains_one_address_family() {
        let networks = parse("0.0.0.0/0").unwrap();
        assert!(networks.contain_everybody());
        assert!(networks.contain([192, 0, 2, 1].into()));
        assert!(!networks.contain("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn ambiguous_networks_are_rejected() {
        for text in [
            "",
            "*",
            "localhost",
            "192.0.2.0/33",
            "192.0.2",
            "192.0.2.1/24",
            "192.0.2.0/24 ",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.0/120",
            "[::1]",
            "192.0.2.1:80",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
