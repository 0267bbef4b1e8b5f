//! Which tables share a listener.
//!
//! Tables that list the same addresses share one listener, which serves the services of all of them. Until the handshake is
//! over, nobody knows which of them a client wants. Their settings up to there must therefore agree, and a listener that
//! authenticates its clients is never shared.

use std::net::SocketAddr;

use edge::admission::IpAllowList;
use edge::cidr::CidrSet;
use edge::listener_id::{ListenerId, Policy};
use edge::tls::CertifiedKey;

/// A table that lists addresses to listen on.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListeningTable<'a, T> {
    /// The table.
    pub(super) table: T,
    /// Its name in the file.
    pub(super) name: &'static str,
    /// Who its clients are.
    pub(super) policy: Policy,
    /// Addresses to bind.
    pub(super) listen: &'a [SocketAddr],
    /// Server certificate.
    pub(super) tls: &'a CertifiedKey,
    /// Client addresses that may connect.
    pub(super) access: &'a IpAllowList,
    /// Addresses of proxies that send a PROXY protocol header.
    pub(super) proxies: &'a CidrSet,
}

/// A listener, and the tables that share it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfiguredListener<T> {
    /// Its ID, with the name of its first table.
    pub id: ListenerId,
    /// Addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// The table whose settings apply.
    pub first: T,
    /// The other tables.
    pub others: Vec<T>,
}

/// Two tables that would share a listener if they agreed on a setting.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Disagreement {
    /// Index of the later table.
    pub(super) table: usize,
    /// Index of the earlier table.
    pub(super) other_table: usize,
    /// The key of the setting.
    pub(super) key: &'static str,
}

/// Returns the listeners of these tables, in their order.
pub(super) fn group<T: Copy>(tables: &[ListeningTable<'_, T>]) -> Result<Vec<ConfiguredListener<T>>, Disagreement> {
    let mut listeners: Vec<(usize, ConfiguredListener<T>)> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let shared = listeners
            .iter_mut()
            .find(|(first, _)| is_shared(&tables[*first], table));
        if let Some((first, listener)) = shared {
            if let Some(key) = disagreement(&tables[*first], table) {
                return Err(Disagreement {
                    table: index,
                    other_table: *first,
                    key,
                });
            }
            listener.others.push(table.table);
            continue;
        }
        // There are only a few tables.
        let id = ListenerId::new(
            u8::try_from(listeners.len()).unwrap_or(u8::MAX),
            table.name,
            table.policy,
        );
        let listener = ConfiguredListener {
            id,
            addresses: table.listen.to_vec(),
            first: table.table,
            others: Vec::new(),
        };
        listeners.push((index, listener));
    }
    Ok(listeners.into_iter().map(|(_, listener)| listener).collect())
}

/// Returns whether two tables want the same listener. Port 0 is another port each time.
fn is_shared<T>(one: &ListeningTable<'_, T>, other: &ListeningTable<'_, T>) -> bool {
    let is_open = [one.policy, other.policy] == [Policy::Open; 2];
    let is_within = |these: &[SocketAddr], those: &[SocketAddr]| {
        these
            .iter()
            .all(|address| address.port() != 0 && those.contains(address))
    };
    is_open && is_within(one.listen, other.listen) && is_within(other.listen, one.listen)
}

/// Returns the key of a setting that differs.
fn disagreement<T>(one: &ListeningTable<'_, T>, other: &ListeningTable<'_, T>) -> Option<&'static str> {
    if !one.tls.is_same(other.tls) {
        Some("tls")
    } else if one.access.allow != other.access.allow {
        Some("allow")
    } else if one.access.deny != other.access.deny {
        Some("deny")
    } else if one.proxies != other.proxies {
        Some("proxy_protocol_from")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Creates a certificate of its own.
    fn tls(folder: &Path, name: &str) -> CertifiedKey {
        let key = KeyPair::generate().expect("key pair");
        let certificate = CertificateParams::new([name.to_owned()]).and_then(|params| params.self_signed(&key));
        let [chain_file, key_file] = ["crt", "key"].map(|extension| folder.join(name).with_extension(extension));
        std::fs::write(&chain_file, certificate.expect("certificate").pem()).expect("a file is written");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file is written");
        CertifiedKey::load(&chain_file, &key_file).expect("a pair")
    }

    fn networks(list: &[&str]) -> CidrSet {
        let list: Vec<_> = list.iter().map(|text| (*text).to_owned()).collect();
        CidrSet::parse(&list).expect("networks")
    }

    #[test]
    fn open_tables_with_the_same_addresses_share_a_listener() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = tls(folder.path(), "one");
        let (access, proxies) = (IpAllowList::default(), CidrSet::default());
        let listeners = |tables: &[(&'static str, Policy, &str)]| {
            let lists: Vec<Vec<SocketAddr>> = tables
                .iter()
                .map(|(_, _, list)| list.split(' ').map(|text| text.parse().expect("an address")).collect())
                .collect();
            let tables: Vec<_> = tables
                .iter()
                .zip(&lists)
                .map(|((name, policy, _), listen)| ListeningTable {
                    table: *name,
                    name,
                    policy: *policy,
                    listen,
                    tls: &tls,
                    access: &access,
                    proxies: &proxies,
                })
                .collect();
            let listeners = group(&tables).expect("all settings agree");
            assert!(
                (0..)
                    .zip(&listeners)
                    .all(|(index, listener)| listener.id.index() == index)
            );
            let described = listeners.into_iter().map(|listener| {
                assert_eq!(listener.id.name(), listener.first);
                [vec![listener.first], listener.others].concat().join("+")
            });
            described.collect::<Vec<_>>()
        };
        use Policy::{Authenticated, Open};
        assert_eq!(listeners(&[("a", Open, "[::]:1"), ("b", Open, "[::]:2")]), ["a", "b"]);
        assert_eq!(
            listeners(&[
                ("admin", Authenticated, "[::]:1"),
                ("a", Open, "[::]:443"),
                ("b", Open, "[::]:443"),
                ("c", Open, "[::]:443"),
            ]),
            ["admin", "a+b+c"]
        );
        let list = "192.0.2.1:443 [2001:db8::1]:443";
        let reversed = "[2001:db8::1]:443 192.0.2.1:443";
        assert_eq!(listeners(&[("a", Open, list), ("b", Open, reversed)]), ["a+b"]);
        // The kernel rejects these: the addresses cannot be bound twice.
        assert_eq!(
            listeners(&[("a", Open, list), ("b", Open, "192.0.2.1:443")]),
            ["a", "b"]
        );
        assert_eq!(
            listeners(&[("a", Open, "192.0.2.1:443"), ("b", Open, list)]),
            ["a", "b"]
        );
        assert_eq!(
            listeners(&[("a", Open, "[::]:1"), ("b", Authenticated, "[::]:1")]),
            ["a", "b"]
        );
        assert_eq!(
            listeners(&[("a", Authenticated, "[::]:1"), ("b", Authenticated, "[::]:1")]),
            ["a", "b"]
        );
        assert_eq!(listeners(&[("a", Open, "[::]:0"), ("b", Open, "[::]:0")]), ["a", "b"]);
    }

    #[test]
    fn tables_that_share_a_listener_agree() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (tls(folder.path(), "one"), tls(folder.path(), "two"));
        let (open, listed) = (IpAllowList::default(), networks(&["192.0.2.0/24"]));
        let allow = IpAllowList {
            allow: listed.clone(),
            ..IpAllowList::default()
        };
        let deny = IpAllowList {
            deny: listed.clone(),
            ..IpAllowList::default()
        };
        let nobody = CidrSet::default();
        let listen = ["[::]:443".parse().expect("an address")];
        let table = |tls, access, proxies| ListeningTable {
            table: (),
            name: "table",
            policy: Policy::Open,
            listen: &listen,
            tls,
            access,
            proxies,
        };
        let usual = table(&one, &open, &nobody);
        for (other, key) in [
            (table(&two, &open, &nobody), "tls"),
            (table(&one, &allow, &nobody), "allow"),
            (table(&one, &deny, &nobody), "deny"),
            (table(&one, &open, &listed), "proxy_protocol_from"),
        ] {
            let expected = Disagreement {
                table: 2,
                other_table: 0,
                key,
            };
            assert_eq!(group(&[usual, usual, other]), Err(expected));
        }
    }
}
