//! Events that clients can repeat at will. Per network and minute, the first few events are logged, and the others are
//! counted. The number of lines per minute is bounded for any number of clients and events.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which the events of a network are counted before the count is logged.
const PERIOD: Duration = Duration::from_mins(1);

/// Events of one kind, counted by IPv4 address or IPv6 /64. All workers share the lock, which is held for a lookup.
#[derive(Debug)]
pub(super) struct Repeats {
    /// Number of events that a network may log per period.
    lines: u64,
    /// Number of networks with a count of their own; all others share one, and none of their events is logged.
    max_networks: usize,
    networks: Mutex<HashMap<IpAddr, Repeated>>,
}

#[derive(Debug)]
struct Repeated {
    since: Instant,
    events: u64,
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
        let network = network(client);
        let key = match networks.len() < self.max_networks || networks.contains_key(&network) {
            true => network,
            false => OTHERS,
        };
        let repeated = networks.entry(key).or_insert_with(|| Repeated {
            since: Instant::now(),
            events: 0,
        });
        repeated.events += 1;
        key != OTHERS && repeated.events <= self.lines
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
        let unlogged = over.into_iter().map(|(network, repeated)| match network {
            OTHERS => (name(network), repeated.events),
            _ => (name(network), repeated.events.saturating_sub(self.lines)),
        });
        unlogged.filter(|(_, events)| *events > 0).collect()
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, Repeated>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key of all networks beyond `max_networks`. No client has this address.
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
        let clients = (0..100_000_u32).map(|n| IpAddr::from((n + 1).to_be_bytes()));
        assert_eq!(clients.filter(|client| repeats.has_line(*client)).count(), 250);
        assert_eq!(repeats.networks().len(), 251);
        assert_eq!(repeats.take_all(), [("many".to_owned(), 99_750)]);
    }
}
