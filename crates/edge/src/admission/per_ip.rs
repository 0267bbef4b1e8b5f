//! Limits per client address: an IPv4 address, or an IPv6 /64, which is what one customer gets.
//!
//! One client may have many of them: a /56 contains 256, a /48 65,536. What is limited by rate is therefore limited for the
//! wider networks as well, each of which may use several times as much as one client.
//!
//! A bucket exists while a connection from its address is open, and afterwards until its debts are paid off; so does the
//! budget of a wider network.

use std::collections::HashMap;
use std::hash::Hash;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::budget::{Budget, Resource};

/// CPU time for filters and searches that each request allowed by `limits.requests_per_second` earns, used or not.
const CPU_PER_REQUEST: Duration = Duration::from_millis(1);

/// Bytes that each request allowed by `limits.requests_per_second` may have, made or not. Those of incus and of browsers have
/// less than 1 KiB.
const INPUT_PER_REQUEST: u32 = 2 << 10;

/// How many times as much as one client the networks around it may use: the /48 (IPv4: /24) and the /56, in the order of
/// [`IpPrefix::networks`]. Few of the links of a household are busy at once, hence four; a site or a neighbourhood has more
/// clients, which need not know each other, hence sixteen. At the default rate, sixteen are 800 requests and 0.8 s of CPU time
/// per second, which leaves a part of the smallest machines to other networks.
const SHARES: [u32; 2] = [16, 4];

/// Number of buckets and budgets up to which expired ones are not searched for.
const FEW: usize = 1024;

/// Address prefix of one client: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct IpPrefix(u128);

impl IpPrefix {
    pub(crate) fn of(client: IpAddr) -> Self {
        match client {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            // No IPv6 network collides with the mapped IPv4 addresses above: its lower 64 bits are zero.
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }

    /// Returns the networks that contain it, from the widest to itself. For IPv6: the /48, /56 and /64, the usual allocations
    /// for a site, a household and a link. For IPv4: the /24, and the address twice.
    pub(crate) fn networks(self) -> [u128; 3] {
        let is_ipv4 = self.0 >> 32 == 0xffff;
        let first = |bits: u32| self.0 >> (128 - bits) << (128 - bits);
        match is_ipv4 {
            true => [first(96 + 24), self.0, self.0],
            false => [first(48), first(56), self.0],
        }
    }

    /// Creates it from the narrowest network that [`Self::networks`] returns.
    pub(super) fn from_bits(network: u128) -> Self {
        Self(network)
    }
}

/// Counters of one client address with open or recent connections.
#[derive(Debug)]
pub struct ClientBucket {
    /// Modified by [`ClientBuckets`] only.
    connections: AtomicUsize,
    since: Instant,
    own: Budget,
    /// Those of the networks around it, in the order of [`SHARES`].
    wider: [Arc<Budget>; 2],
}

impl ClientBucket {
    fn new(since: Instant, wider: [Arc<Budget>; 2]) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            since,
            own: Budget::new(1),
            wider,
        }
    }

    /// Counts one request if the rate allows it.
    ///
    /// # Errors
    /// Returns the time until the next request is allowed.
    pub fn try_acquire(&self, requests_a_second: u32) -> Result<(), Duration> {
        self.try_acquire_at(self.now(), requests_a_second)
    }

    fn try_acquire_at(&self, now: Duration, requests_a_second: u32) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / requests_a_second.max(1);
        self.check(Resource::Requests, now, each)?;
        self.charge(Resource::Requests, now, each);
        Ok(())
    }

    /// Checks whether CPU time is left. The cost of a request is known only afterwards, so the last request may exceed the
    /// rest; the excess extends the wait.
    ///
    /// # Errors
    /// Returns the time until CPU time is available again.
    pub fn has_cpu_time(&self) -> Result<(), Duration> {
        self.has_cpu_time_at(self.now())
    }

    fn has_cpu_time_at(&self, now: Duration) -> Result<(), Duration> {
        self.check(Resource::CpuTime, now, Duration::ZERO)
    }

    /// Charges CPU time, which is earned back at a rate proportional to `requests_a_second`.
    pub fn charge_cpu_time(&self, cpu: Duration, requests_a_second: u32) {
        self.charge_cpu_time_at(self.now(), cpu, requests_a_second);
    }

    fn charge_cpu_time_at(&self, now: Duration, cpu: Duration, requests_a_second: u32) {
        let each_second = CPU_PER_REQUEST.as_secs_f64() * f64::from(requests_a_second.max(1));
        self.charge(Resource::CpuTime, now, cpu.mul_f64(1.0 / each_second));
    }

    /// Checks whether more of the client's bytes may be read.
    ///
    /// # Errors
    /// Returns the time until they may be.
    pub fn has_input(&self) -> Result<(), Duration> {
        self.has_input_at(self.now())
    }

    fn has_input_at(&self, now: Duration) -> Result<(), Duration> {
        self.check(Resource::Input, now, Duration::ZERO)
    }

    /// Charges bytes of the client that were read, which are earned back at a rate proportional to `requests_a_second`.
    pub fn charge_input(&self, bytes: usize, requests_a_second: u32) {
        self.charge_input_at(self.now(), bytes, requests_a_second);
    }

    fn charge_input_at(&self, now: Duration, bytes: usize, requests_a_second: u32) {
        let each_second = f64::from(INPUT_PER_REQUEST) * f64::from(requests_a_second.max(1));
        let earned_in = Duration::from_secs_f64(bytes as f64 / each_second);
        self.charge(Resource::Input, now, earned_in);
    }

    /// Checks all budgets. Several workers may do so before the first of them charges: each may exceed the limit by one
    /// request, which extends the wait.
    fn check(&self, resource: Resource, now: Duration, next: Duration) -> Result<(), Duration> {
        match self.budgets().map(|budget| budget.wait(resource, now, next)).max() {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    fn charge(&self, resource: Resource, now: Duration, earned_in: Duration) {
        self.budgets()
            .for_each(|budget| budget.charge(resource, now, earned_in));
    }

    fn budgets(&self) -> impl Iterator<Item = &Budget> {
        iter::once(&self.own).chain(self.wider.iter().map(Arc::as_ref))
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }
}

/// All buckets.
#[derive(Debug)]
pub(super) struct ClientBuckets {
    /// The origin of all times.
    since: Instant,
    clients: HashMap<IpPrefix, Arc<ClientBucket>>,
    /// The budgets of wider networks, in the order of [`SHARES`].
    wider: [HashMap<u128, Arc<Budget>>; 2],
    /// Number of buckets and budgets at which the next search for expired ones runs.
    enough: usize,
}

impl Default for ClientBuckets {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            clients: HashMap::new(),
            wider: Default::default(),
            enough: FEW,
        }
    }
}

impl ClientBuckets {
    /// Counts one more connection. Returns `None` if the address already has `most` connections.
    pub(super) fn acquire(&mut self, client: IpAddr, most: usize) -> Option<Arc<ClientBucket>> {
        let address = self.of(client);
        let connections = address.connections.load(Ordering::Relaxed);
        if connections >= most {
            return None;
        }
        address.connections.store(connections + 1, Ordering::Relaxed);
        Some(address)
    }

    /// Returns the bucket of a client, connected or not.
    pub(super) fn of(&mut self, client: IpAddr) -> Arc<ClientBucket> {
        if self.len() >= self.enough {
            self.forget(self.since.elapsed());
            self.enough = FEW.max(self.len() * 2);
        }
        let group = IpPrefix::of(client);
        let (since, wider) = (self.since, &mut self.wider);
        let address = self.clients.entry(group).or_insert_with(|| {
            let [widest, middle, _] = group.networks();
            let [site, household] = wider;
            let budget = |known: &mut HashMap<u128, Arc<Budget>>, network, share| {
                Arc::clone(known.entry(network).or_insert_with(|| Arc::new(Budget::new(share))))
            };
            let wider = [budget(site, widest, SHARES[0]), budget(household, middle, SHARES[1])];
            Arc::new(ClientBucket::new(since, wider))
        });
        Arc::clone(address)
    }

    /// Counts a closed connection.
    pub(super) fn release(&self, address: &ClientBucket) {
        address.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes the buckets without connections whose budgets are full, then the budgets of the networks that have no other
    /// bucket.
    fn forget(&mut self, now: Duration) {
        remove_unused(&mut self.clients, |client| client.own.is_full(now));
        for wider in &mut self.wider {
            remove_unused(wider, |budget| budget.is_full(now));
        }
    }

    fn len(&self) -> usize {
        self.clients.len() + self.wider.iter().map(HashMap::len).sum::<usize>()
    }
}

/// Removes the entries that nothing else refers to and that a new one would replace.
fn remove_unused<K: Eq + Hash, V>(entries: &mut HashMap<K, Arc<V>>, is_like_new: impl Fn(&mut V) -> bool) {
    entries.retain(|_, entry| !Arc::get_mut(entry).is_some_and(&is_like_new));
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn bucket() -> Arc<ClientBucket> {
        ClientBuckets::default().of(ip("192.0.2.1"))
    }

    #[test]
    fn an_ipv6_64_prefix_counts_as_one_client() {
        let group = |text| IpPrefix::of(ip(text));
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:0:0:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
        assert_ne!(group("192.0.2.1"), group("::1"));
    }

    #[test]
    fn requests_burst_is_ten_seconds_worth_at_most() {
        let (address, begun) = (bucket(), Duration::ZERO);
        for _ in 0..20 {
            assert_eq!(address.try_acquire_at(begun, 2), Ok(()));
        }
        assert_eq!(address.try_acquire_at(begun, 2), Err(Duration::from_millis(500)));
        assert_eq!(
            address.try_acquire_at(seconds(1) / 4, 2),
            Err(Duration::from_millis(250))
        );
        assert_eq!(address.try_acquire_at(seconds(1) / 2, 2), Ok(()));
        assert!(address.try_acquire_at(seconds(1) / 2, 2).is_err());
        // After any pause, the burst is at most ten seconds' worth.
        for _ in 0..20 {
            assert_eq!(address.try_acquire_at(seconds(1_000), 2), Ok(()));
        }
        assert!(address.try_acquire_at(seconds(1_000), 2).is_err());
    }

    #[test]
    fn cpu_time_refills_and_an_overdraft_delays_requests() {
        let (address, begun) = (bucket(), Duration::ZERO);
        let spend = |now, milliseconds| address.charge_cpu_time_at(now, Duration::from_millis(milliseconds), 50);
        // 50 ms per second, 200 ms in one burst.
        spend(begun, 200);
        assert_eq!(address.has_cpu_time_at(begun), Ok(()));
        spend(begun, 50);
        assert_eq!(address.has_cpu_time_at(begun), Err(seconds(1)));
        assert_eq!(address.has_cpu_time_at(seconds(1)), Ok(()));
        spend(seconds(1), 100);
        assert_eq!(address.has_cpu_time_at(seconds(1)), Err(seconds(2)));
        // After any pause, the burst is at most four seconds' worth.
        spend(seconds(1_000), 210);
        assert!(address.has_cpu_time_at(seconds(1_000)).is_err());
    }

    #[test]
    fn bytes_are_read_as_they_are_earned() {
        let (address, begun) = (bucket(), Duration::ZERO);
        let each = INPUT_PER_REQUEST as usize;
        let receive = |now, bytes| address.charge_input_at(now, bytes, 50);
        // Those of 500 requests in one burst, of 50 per second afterwards.
        receive(begun, 500 * each);
        assert_eq!(address.has_input_at(begun), Ok(()));
        receive(begun, 100 * each);
        assert_eq!(address.has_input_at(begun), Err(seconds(2)));
        assert_eq!(address.has_input_at(seconds(2)), Ok(()));
        receive(seconds(2), each);
        assert_eq!(address.has_input_at(seconds(2)), Err(Duration::from_millis(20)));
    }

    /// Returns the requests that these clients may send at once, each as many as it may.
    fn burst(addresses: &mut ClientBuckets, clients: impl Iterator<Item = String>) -> usize {
        let requests = |client: String| {
            let bucket = addresses.of(ip(&client));
            iter::from_fn(|| bucket.try_acquire_at(Duration::ZERO, 1).ok()).count()
        };
        clients.map(requests).sum()
    }

    #[test]
    fn the_clients_of_a_wider_network_share_a_few_budgets() {
        let mut addresses = ClientBuckets::default();
        let household = |number: u32| (0..256).map(move |n| format!("2001:db8:0:{number:x}{n:02x}::1"));
        assert_eq!(burst(&mut addresses, household(0)), 40, "a /56");
        assert_eq!(burst(&mut addresses, household(1)), 40, "another one");
        assert_eq!(
            burst(&mut addresses, (2..256).flat_map(household)),
            160 - 80,
            "their /48"
        );
        assert_eq!(
            burst(&mut addresses, iter::once("2001:db8:1::1".to_owned())),
            10,
            "another one"
        );
        let neighbours = |number: u32| (0..256).map(move |n| format!("192.0.{number}.{n}"));
        assert_eq!(burst(&mut addresses, neighbours(2)), 160, "a /24");
        assert_eq!(burst(&mut addresses, neighbours(3)), 160, "another one");
    }

    #[test]
    fn cpu_time_and_input_of_a_wider_network_are_limited_too() {
        let mut addresses = ClientBuckets::default();
        let mut client = |n: u32| addresses.of(ip(&format!("2001:db8:0:{n:x}::1")));
        let begun = Duration::ZERO;
        let other = client(0x1_00);
        for n in 0..32 {
            client(n).charge_cpu_time_at(begun, CPU_PER_REQUEST * 8, 1);
            client(n).charge_input_at(begun, 20 * INPUT_PER_REQUEST as usize, 1);
        }
        // 32 × 8 s in a /56 that may use 4 × 4 s at once, and 32 × 20 s in one that may use 4 × 10 s.
        let fresh = client(0xff);
        assert_eq!(fresh.has_cpu_time_at(begun), Err(seconds(8 * 32 / 4 - 4)));
        assert_eq!(fresh.has_input_at(begun), Err(seconds(20 * 32 / 4 - 10)));
        // In their /48, 16 × 4 s and 16 × 10 s.
        assert_eq!(other.has_cpu_time_at(begun), Err(seconds(8 * 32 / 16 - 4)));
        assert_eq!(other.has_input_at(begun), Err(seconds(20 * 32 / 16 - 10)));
        assert_eq!(
            other.try_acquire_at(begun, 1),
            Ok(()),
            "requests are counted separately"
        );
    }

    #[test]
    fn a_closed_client_is_forgotten_once_its_budget_is_full() {
        let mut addresses = ClientBuckets::default();
        let quiet = addresses.acquire(ip("192.0.2.1"), 1).unwrap();
        assert!(addresses.acquire(ip("192.0.2.1"), 1).is_none());
        addresses.forget(seconds(1_000));
        assert!(addresses.acquire(ip("192.0.2.1"), 1).is_none(), "it is connected");
        let close = |addresses: &mut ClientBuckets, bucket: Arc<ClientBucket>| {
            addresses.release(&bucket);
            drop(bucket);
            addresses.forget(addresses.since.elapsed());
        };
        close(&mut addresses, quiet);
        assert_eq!(addresses.len(), 0);

        let busy = addresses.acquire(ip("192.0.2.1"), 1).unwrap();
        while busy.try_acquire(1).is_ok() {}
        close(&mut addresses, busy);
        assert!(addresses.acquire(ip("192.0.2.1"), 1).unwrap().try_acquire(1).is_err());

        let costly = addresses.acquire(ip("192.0.2.2"), 1).unwrap();
        costly.charge_cpu_time(Duration::from_secs(9), 1);
        close(&mut addresses, costly);
        assert!(addresses.acquire(ip("192.0.2.2"), 1).unwrap().has_cpu_time().is_err());

        let talkative = addresses.acquire(ip("192.0.2.3"), 1).unwrap();
        talkative.charge_input(1 << 20, 1);
        close(&mut addresses, talkative);
        assert!(addresses.acquire(ip("192.0.2.3"), 1).unwrap().has_input().is_err());
    }

    #[test]
    fn the_debts_of_a_wider_network_outlive_its_clients() {
        let mut addresses = ClientBuckets::default();
        let clients = (0..16).map(|n| format!("2001:db8:0:{n:x}::1"));
        assert_eq!(burst(&mut addresses, clients), 40);
        // Only four have debts, until the tenth second.
        addresses.forget(seconds(9));
        assert_eq!(addresses.clients.len(), 4);
        for n in 0..16 {
            let client = addresses.of(ip(&format!("2001:db8:0:{n:x}::1")));
            client.charge_input_at(seconds(9), 10 * INPUT_PER_REQUEST as usize, 1);
        }
        // The clients' new debts and those of the /48 last until the 19th second, those of the /56 until the 49th.
        addresses.forget(seconds(20));
        assert_eq!(
            (addresses.clients.len(), addresses.wider.each_ref().map(HashMap::len)),
            (0, [0, 1])
        );
        let fresh = addresses.of(ip("2001:db8:0:ff::1"));
        assert!(fresh.has_input_at(seconds(20)).is_err());
        drop(fresh);
        addresses.forget(seconds(49));
        assert_eq!(addresses.len(), 0);
    }

    #[test]
    fn many_short_lived_clients_use_bounded_memory() {
        let mut addresses = ClientBuckets::default();
        for n in 0..100_000_u32 {
            let address = addresses
                .acquire(IpAddr::from(n.reverse_bits().to_be_bytes()), 1)
                .unwrap();
            // Expired when the next one connects, but not when this one disconnects.
            address.charge(Resource::Requests, address.now(), Duration::from_nanos(16));
            addresses.release(&address);
        }
        assert!(addresses.len() <= 2 * FEW, "{}", addresses.len());
    }
}
