//! Events that clients can repeat at will. Per network and minute, the first event is logged, and the others are
//! counted. The number of lines per minute is bounded for any number of clients and events.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which the events of a network are counted before the count is logged.
const PERIOD: Duration = Duration::from_mins(1);
/// Number of networks with a count of their own per period; all others share one. With two lines of at most 1.5 KB
/// each, the log grows by less than a megabyte per minute.
const MAX_NETWORKS: usize = 250;

/// Events of one kind, counted by IPv4 address or IPv6 /64. All workers share the lock: only rejected requests use it,
/// and they are rare or limited.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<IpAddr, Repeated>>);

#[derive(Debug)]
struct Repeated {
    since: Instant,
    /// Number of events without a line of their own.
    unlogged: u64,
}

impl Repeats {
    /// Counts an event. Returns `true` if it is the first of its network in this period, so that the caller logs it.
    pub(super) fn is_first(&self, client: IpAddr) -> bool {
        let mut networks = self.networks();
        let network = network(client);
        let (key, has_line) = match networks.contains_key(&network) {
            true => (network, false),
            false if networks.len() < MAX_NETWORKS => (network, true),
            false => (OTHERS, false),
        };
        let repeated = networks.entry(key).or_insert_with(|| Repeated {
            since: Instant::now(),
            unlogged: 0,
        });
        repeated.unlogged += u64::from(!has_line);
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
        let over = |_: &IpAddr, repeated: &mut Repeated| repeated.since.elapsed() >= period;
        let over: Vec<_> = self.networks().extract_if(over).collect();
        let unlogged = over.into_iter().filter(|(_, repeated)| repeated.unlogged > 0);
        unlogged
            .map(|(network, repeated)| (name(network), repeated.unlogged))
            .collect()
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, Repeated>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key of all networks beyond [`MAX_NETWORKS`]. No client has this address.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Returns the network of an address: a client with one IPv6 address controls its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn name(network: IpAddr) -> String {
    match network {
        OTHERS => "many".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_gets_one_line_and_a_count() {
        let repeats = Repeats::default();
        let is_first = |client: &str| repeats.is_first(client.parse().unwrap());
        assert!(is_first("192.0.2.1") && is_first("192.0.2.2") && is_first("2001:db8::1"));
        assert!(!is_first("192.0.2.1") && !is_first("192.0.2.1") && !is_first("2001:db8::2"));
        assert!(repeats.take_over().is_empty(), "the minute is not over");
        let mut counts = repeats.take_all();
        counts.sort();
        assert_eq!(counts, [("192.0.2.1".to_owned(), 2), ("2001:db8::/64".to_owned(), 1)]);
        assert!(repeats.take_all().is_empty());
        assert!(is_first("192.0.2.1"), "a new period");
    }

    #[test]
    fn lines_and_memory_are_bounded_for_any_number_of_networks() {
        let repeats = Repeats::default();
        let clients = (0..100_000_u32).map(|n| IpAddr::from((n + 1).to_be_bytes()));
        let lines = clients.filter(|client| repeats.is_first(*client)).count();
        assert_eq!(lines, MAX_NETWORKS);
        assert!(repeats.networks().len() <= MAX_NETWORKS + 1);
        assert_eq!(repeats.take_all(), [("many".to_owned(), 100_000 - MAX_NETWORKS as u64)]);
    }
}
