//! Connections on the public port, and the choice of the one to evict when the port is full.
//!
//! A limit per address or per /64 does not bound a client that owns an IPv6 /48, which contains 65,536 of them. A second
//! limit per /48 or /24 would lock out the customers of a provider that has many of them behind a few addresses. No client is
//! therefore rejected for its network. Instead, when the port is full, a new connection evicts an idle one: within the /48
//! (IPv4: /24) with the most connections, within its /56 with the most, within its /64 (IPv4: address) with the most, the
//! oldest. The new connection is counted in its own networks, and never evicts from a network smaller than its own. A client
//! that fills the port evicts itself, and only idle connections are evicted, never a response in flight.
//!
//! Each change and each choice takes logarithmic time in the number of connections; a request takes two atomic operations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::per_ip::{ClientBucket, IpPrefix};

/// Maximum number of connections that are examined for an idle one before a new connection is rejected.
const MAX_EXAMINED: usize = 1024;

/// Maximum number of evicted connections that are not closed yet. At this number, new connections are rejected: another
/// worker may take a while to close them, and each holds a file descriptor.
const MAX_CLOSING: usize = 8;

/// Value of `answers` for an evicted connection.
const EVICTED: usize = usize::MAX;

/// A connection on the public port, or a download that counts as one.
#[derive(Debug)]
pub struct Stranger {
    group: IpPrefix,
    /// Order of arrival.
    number: u64,
    /// Bucket that counts its requests; `None` for loopback clients.
    pub(super) address: Option<Arc<ClientBucket>>,
    pub(super) has_evicted: bool,
    /// Responses in flight, or [`EVICTED`].
    answers: AtomicUsize,
    pub(super) evicted: Notify,
}

impl Stranger {
    /// Counts a new response. Returns `false` if the connection has been evicted and must not respond.
    pub(crate) fn begin_answer(&self) -> bool {
        let begin = |answers: usize| (answers != EVICTED).then(|| answers + 1);
        let begun = self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin);
        begun.is_ok()
    }

    /// Counts the end of a response that was begun.
    pub(crate) fn end_answer(&self) {
        self.answers.fetch_sub(1, Ordering::Relaxed);
    }

    fn try_evict(&self) -> bool {
        let is_idle = self
            .answers
            .compare_exchange(0, EVICTED, Ordering::Relaxed, Ordering::Relaxed);
        if is_idle.is_ok() {
            self.evicted.notify_one();
        }
        is_idle.is_ok()
    }
}

/// All connections on the public port.
#[derive(Debug, Default)]
pub(super) struct PublicQueue {
    connections: BTreeMap<(IpPrefix, u64), Arc<Stranger>>,
    /// Rankings of networks, from the widest to the narrowest.
    rankings: [Ranking; 3],
    /// Number of evicted connections that are not closed yet.
    closing: usize,
    changes: u64,
}

impl PublicQueue {
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Adds a connection.
    pub(super) fn acquire(
        &mut self,
        group: IpPrefix,
        address: Option<Arc<ClientBucket>>,
        has_evicted: bool,
    ) -> Arc<Stranger> {
        self.count(group, 1);
        let stranger = Arc::new(Stranger {
            group,
            number: self.changes,
            address,
            has_evicted,
            answers: AtomicUsize::new(0),
            evicted: Notify::new(),
        });
        self.connections.insert((group, stranger.number), Arc::clone(&stranger));
        stranger
    }

    /// Evicts an idle connection for a new one with this prefix. Returns the evicted one, if there is any.
    pub(super) fn evict_for(&mut self, newcomer: IpPrefix) -> Option<Arc<Stranger>> {
        if self.closing >= MAX_CLOSING {
            return None;
        }
        self.count(newcomer, 1);
        let evicted = self.idle(newcomer);
        self.count(newcomer, -1);
        let evicted = evicted?;
        self.remove(&evicted);
        self.closing += 1;
        Some(evicted)
    }

    /// Counts a closed connection. Returns `false` if it was evicted before.
    pub(super) fn release(&mut self, stranger: &Stranger) -> bool {
        let was_there = self.remove(stranger);
        if !was_there {
            self.closing -= 1;
        }
        was_there
    }

    fn remove(&mut self, stranger: &Stranger) -> bool {
        let found = self.connections.remove(&(stranger.group, stranger.number));
        if found.is_some() {
            self.count(stranger.group, -1);
        }
        found.is_some()
    }

    /// Evicts the first idle connection in the networks that are no smaller than the new connection's.
    fn idle(&self, newcomer: IpPrefix) -> Option<Arc<Stranger>> {
        let [wide, middle, narrow] = &self.rankings;
        let groups = wide
            .largest_in(0)
            .flat_map(|network| middle.largest_in(network))
            .flat_map(|network| narrow.largest_in(network))
            .map(IpPrefix::from_bits);
        let mut examined = 0;
        for group in groups {
            for (_, stranger) in self.connections.range((group, 0)..=(group, u64::MAX)) {
                if stranger.try_evict() {
                    return Some(Arc::clone(stranger));
                }
                examined += 1;
                if examined == MAX_EXAMINED {
                    return None;
                }
            }
            if group == newcomer {
                return None;
            }
        }
        None
    }

    fn count(&mut self, group: IpPrefix, more: isize) {
        self.changes += 1;
        let mut within = 0;
        for (ranking, network) in self.rankings.iter_mut().zip(group.networks()) {
            ranking.count(within, network, more, self.changes);
            within = network;
        }
    }
}

/// Networks of one prefix length, ordered by number of connections. Among equals, the one whose number has not changed for
/// the longest time is first.
#[derive(Debug, Default)]
struct Ranking {
    counts: HashMap<u128, (usize, u64)>,
    /// Keyed by the enclosing network first.
    order: BTreeSet<(u128, usize, Reverse<u64>, u128)>,
}

impl Ranking {
    fn count(&mut self, within: u128, network: u128, more: isize, change: u64) {
        let (count, last) = self.counts.remove(&network).unwrap_or_default();
        self.order.remove(&(within, count, Reverse(last), network));
        let count = count.saturating_add_signed(more);
        if count > 0 {
            self.counts.insert(network, (count, change));
            self.order.insert((within, count, Reverse(change), network));
        }
    }

    fn largest_in(&self, within: u128) -> impl Iterator<Item = u128> {
        let all = (within, 0, Reverse(u64::MAX), 0)..=(within, usize::MAX, Reverse(0), u128::MAX);
        self.order.range(all).rev().map(|(_, _, _, network)| *network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(client: &str) -> IpPrefix {
        IpPrefix::of(client.parse().unwrap())
    }

    /// Creates a queue with these connections, in this order.
    fn strangers(clients: &[&str]) -> (PublicQueue, Vec<Arc<Stranger>>) {
        let mut strangers = PublicQueue::default();
        let all = clients
            .iter()
            .map(|client| strangers.acquire(group(client), None, false))
            .collect();
        (strangers, all)
    }

    /// Returns the index of the connection that `newcomer` evicts.
    fn evicted(strangers: &mut PublicQueue, all: &[Arc<Stranger>], newcomer: &str) -> Option<usize> {
        let evicted = strangers.evict_for(group(newcomer))?;
        all.iter().position(|stranger| Arc::ptr_eq(stranger, &evicted))
    }

    #[test]
    fn the_oldest_idle_connection_of_the_largest_network_goes() {
        let clients = [
            "2001:db8:1:1::1",
            "2001:db8:2:101::1",
            // The largest /48, within it the largest /56, within that the largest /64.
            "2001:db8:2:1::1",
            "2001:db8:2:2::1",
            "2001:db8:2:2::2",
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
        ];
        let (mut strangers, all) = strangers(&clients);
        assert_eq!(evicted(&mut strangers, &all, "198.51.100.1"), Some(3));
        // Now the /48 and the /24 have three each: the one that reached this number earlier is first.
        assert_eq!(evicted(&mut strangers, &all, "198.51.100.1"), Some(5));
        assert_eq!(strangers.len(), 6);
        assert!(!strangers.release(&all[3]), "it has gone");
        assert!(strangers.release(&all[4]));
    }

    #[test]
    fn sixteen_prefixes_of_one_client_evict_only_themselves() {
        let mut strangers = PublicQueue::default();
        let client = |n: u32| format!("2001:db8:0:{:x}::1", n % 16);
        let crowd: Vec<_> = (0..1_000)
            .map(|n| strangers.acquire(group(&client(n)), None, false))
            .collect();
        let honest = strangers.acquire(group("2001:db8:ffff::1"), None, false);
        for n in 0..10_000 {
            let evicted = strangers.evict_for(group(&client(n))).unwrap();
            assert!(!Arc::ptr_eq(&evicted, &honest));
            assert!(!strangers.release(&evicted), "it has gone");
            strangers.acquire(group(&client(n)), None, true);
        }
        assert_eq!(strangers.len(), crowd.len() + 1);
        assert!(honest.begin_answer(), "it has been evicted");
        // A client with fewer connections is admitted.
        assert!(strangers.evict_for(group("192.0.2.1")).is_some());
    }

    #[test]
    fn active_connections_and_smaller_networks_are_not_evicted() {
        let (mut strangers, all) = strangers(&["192.0.2.1", "192.0.2.1", "192.0.2.2", "198.51.100.1"]);
        assert!(all[..3].iter().all(|stranger| stranger.begin_answer()));
        // The last one is idle, but in a network with fewer connections.
        assert_eq!(evicted(&mut strangers, &all, "192.0.2.2"), None);
        assert_eq!(evicted(&mut strangers, &all, "192.0.2.9"), None);
        assert_eq!(evicted(&mut strangers, &all, "203.0.113.1"), Some(3));
        assert!(!all[3].begin_answer(), "its place is another's");
        all[1].end_answer();
        assert_eq!(evicted(&mut strangers, &all, "192.0.2.9"), Some(1));
    }

    #[test]
    fn evictions_wait_until_earlier_ones_have_closed() {
        let (mut strangers, all) = strangers(&["192.0.2.1"; 2 * MAX_CLOSING]);
        for oldest in &all[..MAX_CLOSING] {
            assert!(Arc::ptr_eq(&strangers.evict_for(group("192.0.2.1")).unwrap(), oldest));
        }
        assert!(strangers.evict_for(group("192.0.2.2")).is_none());
        assert!(!strangers.release(&all[0]));
        assert!(strangers.evict_for(group("192.0.2.2")).is_some());
    }

    #[test]
    fn released_connections_leave_no_entries() {
        let clients: Vec<_> = (0..1_000).map(|n| format!("10.{}.{}.1", n % 7, n % 251)).collect();
        let clients: Vec<&str> = clients.iter().map(|client| &**client).collect();
        let (mut strangers, all) = strangers(&clients);
        for stranger in all {
            assert!(strangers.release(&stranger));
        }
        assert_eq!(strangers.len(), 0);
        for ranking in &strangers.rankings {
            assert!(ranking.counts.is_empty() && ranking.order.is_empty());
        }
    }
}
