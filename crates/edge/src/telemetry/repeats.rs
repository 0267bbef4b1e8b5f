//! Events that clients can repeat at will. Per network and minute, the first few events are logged, and the others are
//! counted. The number of lines per minute is bounded for any number of clients and events.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which the events of a network are counted before the count is logged.
const PERIOD: Duration = Duration::from_mins(1);

/// Number of times the lines of one network that the networks of its IPv4 /24 or IPv6 /48 may log together. A customer has up
/// to 65,536 of these networks.
const WIDER: u64 = 5;

/// Events of one kind, counted by IPv4 address or IPv6 /64. All workers share the lock, which is held for two lookups.
#[derive(Debug)]
pub(super) struct Repeats {
    /// Number of events that a network may log per period.
    lines: u64,
    /// Number of networks with a count of their own; all others share one, and none of their events is logged.
    max_networks: usize,
    networks: Mutex<HashMap<Key, Repeated>>,
}

/// What events are counted by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key {
    /// An address or network, and its bits.
    Network(IpAddr, u32),
    /// All networks beyond `max_networks`.
    Others,
}

impl Key {
    /// The network of a client: a client with one IPv6 address controls its whole /64.
    fn of(client: IpAddr) -> Self {
        Self::masked(client, 32, 64)
    }

    fn wider_than(client: IpAddr) -> Self {
        Self::masked(client, 24, 48)
    }

    fn masked(client: IpAddr, bits_of_ipv4: u32, bits_of_ipv6: u32) -> Self {
        match client {
            IpAddr::V4(address) => {
                let rest = 32 - bits_of_ipv4;
                Self::Network(
                    Ipv4Addr::from_bits(address.to_bits() >> rest << rest).into(),
                    bits_of_ipv4,
                )
            }
            IpAddr::V6(address) => {
                let rest = 128 - bits_of_ipv6;
                Self::Network(
                    Ipv6Addr::from_bits(address.to_bits() >> rest << rest).into(),
                    bits_of_ipv6,
                )
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address, 32) => write!(f, "{address}"),
            Self::Network(network, bits) => write!(f, "{network}/{bits}"),
            Self::Others => f.write_str("many"),
        }
    }
}

#[derive(Debug)]
struct Repeated {
    since: Instant,
    events: u64,
    logged: u64,
}

impl Repeats {
    pub(super) fn new(lines: u64, max_networks: usize) -> Self {
        Self {
            lines,
            max_networks,
            networks: Mutex::default(),
        }
    }

    /// Counts an event. Returns `true` if the caller may log it.
    pub(super) fn has_line(&self, client: IpAddr) -> bool {
        let mut networks = self.networks();
        let (network, wider) = (Key::of(client), Key::wider_than(client));
        let logged = |key| networks.get(&key).map(|repeated| repeated.logged);
        let is_known = logged(network).is_some();
        let is_full = logged(wider).unwrap_or(0) >= self.lines * WIDER;
        let key = match (is_known, is_full) {
            (true, _) => network,
            (false, true) => wider,
            // Each network comes with its wider one.
            (false, false) if networks.len() < 2 * self.max_networks => network,
            (false, false) => Key::Others,
        };
        let has_line = key == network && !is_full && logged(network).unwrap_or(0) < self.lines;
        count(&mut networks, key, has_line);
        if has_line {
            count(&mut networks, wider, true);
        }
        has_line
    }

    /// Ends the periods that are over. Returns each network with unlogged events, and their number.
    pub(super) fn take_over(&self) -> Vec<(String, u64)> {
        self.take_older_than(PERIOD)
    }

    /// Same as [`take_over`](Self::take_over), for all periods. Called at exit.
    pub(super) fn take_all(&self) -> Vec<(String, u64)> {
        self.take_older_than(Duration::ZERO)
    }

    fn take_older_than(&self, period: Duration) -> Vec<(String, u64)> {
        let over = |_: &Key, repeated: &mut Repeated| repeated.since.elapsed() >= period;
        let over: Vec<_> = self.networks().extract_if(over).collect();
        let unlogged = over
            .into_iter()
            .map(|(key, repeated)| (key.to_string(), repeated.events - repeated.logged));
        unlogged.filter(|(_, events)| *events > 0).collect()
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<Key, Repeated>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(networks: &mut HashMap<Key, Repeated>, key: Key, is_logged: bool) {
    let repeated = networks.entry(key).or_insert_with(|| Repeated {
        since: Instant::now(),
        events: 0,
        logged: 0,
    });
    repeated.events += 1;
    repeated.logged += u64::from(is_logged);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_line(repeats: &Repeats, client: &str) -> bool {
        repeats.has_line(client.parse().unwrap())
    }

    #[test]
    fn each_network_gets_its_lines_and_a_count() {
        let repeats = Repeats::new(2, 250);
        let logged = |client: &str, times: usize| (0..times).filter(|_| has_line(&repeats, client)).count();
        assert_eq!(logged("192.0.2.1", 5), 2);
        assert_eq!(logged("192.0.2.2", 1), 1);
        assert_eq!((logged("2001:db8::1", 2), logged("2001:db8::2", 1)), (2, 0), "one /64");
        assert!(repeats.take_over().is_empty(), "the minute is not over");
        let mut counts = repeats.take_all();
        counts.sort();
        assert_eq!(counts, [("192.0.2.1".to_owned(), 3), ("2001:db8::/64".to_owned(), 1)]);
        assert!(repeats.take_all().is_empty());
        assert_eq!(logged("192.0.2.1", 1), 1, "a new period");
    }

    #[test]
    fn lines_and_memory_are_bounded_for_any_number_of_networks() {
        let repeats = Repeats::new(1, 250);
        // One in each /24.
        let clients = (0..100_000_u32).map(|n| IpAddr::from(((n + 1) << 8).to_be_bytes()));
        assert_eq!(clients.filter(|client| repeats.has_line(*client)).count(), 250);
        assert_eq!(repeats.networks().len(), 501);
        assert_eq!(repeats.take_all(), [("many".to_owned(), 99_750)]);
    }

    #[test]
    fn the_networks_of_one_customer_share_five_times_the_lines_of_one() {
        let repeats = Repeats::new(6, 4096);
        let ipv6 = (0..256).map(|n| IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 1]));
        let ipv4 = (0..=255).map(|n| IpAddr::from([192, 0, 2, n]));
        for networks in [ipv6.collect::<Vec<_>>(), ipv4.collect()] {
            let logged = networks.iter().filter(|client| repeats.has_line(**client)).count();
            assert_eq!(logged, 30, "{:?}", networks[0]);
        }
        assert!(has_line(&repeats, "2001:db8:1::1"), "another customer");
        assert!(!has_line(&repeats, "192.0.2.1"), "though it has had one line");
        let mut counts = repeats.take_all();
        counts.sort();
        let expected = [("192.0.2.0/24", 226), ("192.0.2.1", 1), ("2001:db8::/48", 226)];
        assert_eq!(counts, expected.map(|(network, events)| (network.to_owned(), events)));
    }
}
