//! Limits per client address: an IPv4 address, or an IPv6 /64, which is what one customer gets.
//!
//! A bucket exists while a connection from its address is open, and afterwards until its debts for requests and CPU time are
//! paid off.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests of this many seconds may come in one burst after a period without requests.
const BURST: Duration = Duration::from_secs(10);

/// CPU time for filters and searches that each request allowed by `limits.requests_per_second` earns, used or not.
const CPU_PER_REQUEST: Duration = Duration::from_millis(1);
/// CPU time of this many seconds may be used in one burst after a period without use.
const CPU_BURST: Duration = Duration::from_secs(4);

/// Bytes that each request allowed by `limits.requests_per_second` may have, made or not. Those of incus and of browsers have
/// less than 1 KiB. The bytes of as many seconds as for requests may come in one burst.
const INPUT_PER_REQUEST: u32 = 2 << 10;

/// Number of buckets up to which expired ones are not searched for.
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
    pub(super) fn networks(self) -> [u128; 3] {
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
    group: IpPrefix,
    /// Modified by [`ClientBuckets`] only.
    connections: AtomicUsize,
    since: Instant,
    /// Theoretical arrival time of the next request, in nanoseconds after `since`.
    requested: AtomicU64,
    /// The same for CPU time: the time at which all used CPU time has been earned, in nanoseconds after `since`.
    computed: AtomicU64,
    /// The same for bytes of the client.
    received: AtomicU64,
}

impl ClientBucket {
    fn new(group: IpPrefix) -> Self {
        Self {
            group,
            connections: AtomicUsize::new(0),
            since: Instant::now(),
            requested: AtomicU64::new(0),
            computed: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Counts one request if the rate allows it. This is the generic cell rate algorithm (GCRA) with a single number that all
    /// workers share.
    ///
    /// # Errors
    /// Returns the time until the next request is allowed.
    pub fn try_acquire(&self, requests_a_second: u32) -> Result<(), Duration> {
        self.try_acquire_at(self.now(), requests_a_second)
    }

    fn try_acquire_at(&self, now: u64, requests_a_second: u32) -> Result<(), Duration> {
        let each = nanoseconds(Duration::from_secs(1) / requests_a_second.max(1));
        let ahead = nanoseconds(BURST).saturating_sub(each);
        let advance = |arrival: u64| (arrival <= now + ahead).then(|| arrival.max(now) + each);
        match self
            .requested
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
        {
            Ok(_) => Ok(()),
            Err(arrival) => Err(Duration::from_nanos(arrival - now - ahead)),
        }
    }

    /// Checks whether CPU time is left. The cost of a request is known only afterwards, so the last request may exceed the
    /// rest; the excess extends the wait.
    ///
    /// # Errors
    /// Returns the time until CPU time is available again.
    pub fn has_cpu_time(&self) -> Result<(), Duration> {
        self.has_cpu_time_at(self.now())
    }

    fn has_cpu_time_at(&self, now: u64) -> Result<(), Duration> {
        is_within(&self.computed, now, CPU_BURST)
    }

    /// Charges CPU time, which is earned back at a rate proportional to `requests_a_second`.
    pub fn charge(&self, cpu: Duration, requests_a_second: u32) {
        self.charge_at(self.now(), cpu, requests_a_second);
    }

    fn charge_at(&self, now: u64, cpu: Duration, requests_a_second: u32) {
        let each_second = CPU_PER_REQUEST.as_secs_f64() * f64::from(requests_a_second.max(1));
        charge(&self.computed, now, cpu.mul_f64(1.0 / each_second));
    }

    /// Checks whether more of the client's bytes may be read.
    ///
    /// # Errors
    /// Returns the time until they may be.
    pub fn has_input(&self) -> Result<(), Duration> {
        self.has_input_at(self.now())
    }

    fn has_input_at(&self, now: u64) -> Result<(), Duration> {
        is_within(&self.received, now, BURST)
    }

    /// Charges bytes of the client that were read, which are earned back at a rate proportional to `requests_a_second`.
    pub fn charge_input(&self, bytes: usize, requests_a_second: u32) {
        self.charge_input_at(self.now(), bytes, requests_a_second);
    }

    fn charge_input_at(&self, now: u64, bytes: usize, requests_a_second: u32) {
        let each_second = f64::from(INPUT_PER_REQUEST) * f64::from(requests_a_second.max(1));
        charge(&self.received, now, Duration::from_secs_f64(bytes as f64 / each_second));
    }

    /// Returns whether a new bucket would be equivalent.
    fn is_forgettable(&self) -> bool {
        let is_over = |time: &AtomicU64| time.load(Ordering::Relaxed) <= self.now();
        self.connections.load(Ordering::Relaxed) == 0
            && [&self.requested, &self.computed, &self.received]
                .into_iter()
                .all(is_over)
    }

    fn now(&self) -> u64 {
        nanoseconds(self.since.elapsed())
    }
}

/// Checks that what was used will have been earned within `burst`; otherwise, returns the time until then.
fn is_within(used: &AtomicU64, now: u64, burst: Duration) -> Result<(), Duration> {
    match used.load(Ordering::Relaxed).saturating_sub(now + nanoseconds(burst)) {
        0 => Ok(()),
        wait => Err(Duration::from_nanos(wait)),
    }
}

fn charge(used: &AtomicU64, now: u64, earned_in: Duration) {
    let charge = |used: u64| Some(used.max(now).saturating_add(nanoseconds(earned_in)));
    // The closure never returns `None`.
    let _ = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
}

fn nanoseconds(time: Duration) -> u64 {
    // 64 bits of nanoseconds last for 584 years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct ClientBuckets {
    known: HashMap<IpPrefix, Arc<ClientBucket>>,
    /// Number of buckets at which the next search for expired ones runs.
    enough: usize,
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
        if self.known.len() >= self.enough.max(FEW) {
            self.known.retain(|_, address| !address.is_forgettable());
            self.enough = self.known.len() * 2;
        }
        let group = IpPrefix::of(client);
        let address = self
            .known
            .entry(group)
            .or_insert_with(|| Arc::new(ClientBucket::new(group)));
        Arc::clone(address)
    }

    pub(super) fn release(&mut self, address: &ClientBucket) {
        address.connections.fetch_sub(1, Ordering::Relaxed);
        if address.is_forgettable() {
            self.known.remove(&address.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
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
        let address = ClientBucket::new(IpPrefix::of(ip("192.0.2.1")));
        for _ in 0..20 {
            assert_eq!(address.try_acquire_at(0, 2), Ok(()));
        }
        assert_eq!(address.try_acquire_at(0, 2), Err(Duration::from_millis(500)));
        assert_eq!(address.try_acquire_at(SECOND / 4, 2), Err(Duration::from_millis(250)));
        assert_eq!(address.try_acquire_at(SECOND / 2, 2), Ok(()));
        assert!(address.try_acquire_at(SECOND / 2, 2).is_err());
        // After any pause, the burst is at most ten seconds' worth.
        for _ in 0..20 {
            assert_eq!(address.try_acquire_at(1_000 * SECOND, 2), Ok(()));
        }
        assert!(address.try_acquire_at(1_000 * SECOND, 2).is_err());
    }

    #[test]
    fn cpu_time_refills_and_an_overdraft_delays_requests() {
        let address = ClientBucket::new(IpPrefix::of(ip("192.0.2.1")));
        let spend = |now, milliseconds| address.charge_at(now, Duration::from_millis(milliseconds), 50);
        // 50 ms per second, 200 ms in one burst.
        spend(0, 200);
        assert_eq!(address.has_cpu_time_at(0), Ok(()));
        spend(0, 50);
        assert_eq!(address.has_cpu_time_at(0), Err(Duration::from_secs(1)));
        assert_eq!(address.has_cpu_time_at(SECOND), Ok(()));
        spend(SECOND, 100);
        assert_eq!(address.has_cpu_time_at(SECOND), Err(Duration::from_secs(2)));
        // After any pause, the burst is at most four seconds' worth.
        spend(1_000 * SECOND, 210);
        assert!(address.has_cpu_time_at(1_000 * SECOND).is_err());
    }

    #[test]
    fn bytes_are_read_as_they_are_earned() {
        let address = ClientBucket::new(IpPrefix::of(ip("192.0.2.1")));
        let each = INPUT_PER_REQUEST as usize;
        let receive = |now, bytes| address.charge_input_at(now, bytes, 50);
        // Those of 500 requests in one burst, of 50 per second afterwards.
        receive(0, 500 * each);
        assert_eq!(address.has_input_at(0), Ok(()));
        receive(0, 100 * each);
        assert_eq!(address.has_input_at(0), Err(Duration::from_secs(2)));
        assert_eq!(address.has_input_at(2 * SECOND), Ok(()));
        receive(2 * SECOND, each);
        assert_eq!(address.has_input_at(2 * SECOND), Err(Duration::from_millis(20)));
    }

    #[test]
    fn a_closed_client_is_forgotten_once_its_budget_is_full() {
        let mut addresses = ClientBuckets::default();
        let quiet = addresses.acquire(ip("192.0.2.1"), 1).unwrap();
        assert!(addresses.acquire(ip("192.0.2.1"), 1).is_none());
        addresses.release(&quiet);
        assert!(addresses.known.is_empty());

        let busy = addresses.acquire(ip("192.0.2.1"), 1).unwrap();
        while busy.try_acquire(1).is_ok() {}
        addresses.release(&busy);
        assert!(addresses.acquire(ip("192.0.2.1"), 1).unwrap().try_acquire(1).is_err());

        let costly = addresses.acquire(ip("192.0.2.2"), 1).unwrap();
        costly.charge(Duration::from_secs(9), 1);
        addresses.release(&costly);
        assert!(addresses.acquire(ip("192.0.2.2"), 1).unwrap().has_cpu_time().is_err());

        let talkative = addresses.acquire(ip("192.0.2.3"), 1).unwrap();
        talkative.charge_input(1 << 20, 1);
        addresses.release(&talkative);
        assert!(addresses.acquire(ip("192.0.2.3"), 1).unwrap().has_input().is_err());
    }

    #[test]
    fn many_short_lived_clients_use_bounded_memory() {
        let mut addresses = ClientBuckets::default();
        for n in 0..100_000_u32 {
            let address = addresses.acquire(IpAddr::from(n.to_be_bytes()), 1).unwrap();
            // Expired when the next one connects, but not when this one disconnects.
            address.requested.store(address.now() + 1, Ordering::Relaxed);
            addresses.release(&address);
        }
        assert!(addresses.known.len() <= 2 * FEW, "{}", addresses.known.len());
    }
}
