//! Memory that responses on the public port hold until their clients have read them.
//!
//! A client may request much and read nothing. Every response therefore acquires a lease for the memory it holds: a constant
//! for its stream and for its connection's buffers, plus the bytes created for this response alone. The [`BudgetLease`] is
//! attached to the bytes themselves, so it ends when the last buffer has been written, whichever library owns that buffer.
//!
//! When one address, or all of them together, exceed their budget, the connection that holds the most is reset: one of the
//! address that exceeds its own budget, or else one of the address that holds the most. A small holder is never reset for
//! others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::per_ip::IpPrefix;
use super::reject_counters::RejectCounters;
use super::reject_reason::RejectReason;

/// Budget of all responses together, in bytes.
const BUDGET: usize = 32 << 20;
/// Budget of the responses to one address, in bytes.
const BUDGET_OF_ADDRESS: usize = BUDGET / 2;
/// Cost of an HTTP/2 stream besides its body, in bytes: its task, its request record and its state in h2.
const ANSWER: usize = 8 << 10;
/// Memory that TLS holds for a connection whose client does not read, in bytes.
const CONNECTION: usize = 32 << 10;

/// All leases.
#[derive(Debug, Default)]
pub(super) struct ResponseBudget {
    ledger: Mutex<Ledger>,
    cases: Arc<RejectCounters>,
}

impl ResponseBudget {
    pub(super) fn new(cases: Arc<RejectCounters>) -> Self {
        Self {
            ledger: Mutex::default(),
            cases,
        }
    }

    /// Registers a new connection of this client.
    pub(super) fn reader(self: &Arc<Self>, client: IpAddr) -> Arc<Reader> {
        let number = {
            let mut ledger = self.lock();
            ledger.next += 1;
            ledger.next
        };
        Arc::new(Reader {
            budget: Arc::clone(self),
            number,
            // Loopback is not a single client, as in `admit`.
            address: (!client.is_loopback()).then(|| IpPrefix::of(client)),
            is_evicted: AtomicBool::new(false),
            evicted: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing panics between two changes that belong together.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Ledger {
    /// Number of the last reader that was created.
    next: u64,
    total: usize,
    /// Bytes per address; `None` is loopback, which has no budget of its own.
    addresses: HashMap<Option<IpPrefix>, usize>,
    /// Readers that hold memory, by number: the one connected for the longest time first.
    readers: BTreeMap<u64, Account>,
}

#[derive(Debug)]
struct Account {
    reader: Arc<Reader>,
    bytes: usize,
}

impl Ledger {
    /// Adds bytes, and returns the readers that this evicts.
    fn add(&mut self, reader: &Arc<Reader>, bytes: usize) -> Vec<Arc<Reader>> {
        if reader.is_evicted() {
            return Vec::new();
        }
        let account = self.readers.entry(reader.number).or_insert_with(|| Account {
            reader: Arc::clone(reader),
            bytes: 0,
        });
        let bytes = if account.bytes == 0 { bytes + CONNECTION } else { bytes };
        account.bytes += bytes;
        self.total += bytes;
        *self.addresses.entry(reader.address).or_default() += bytes;
        let mut evicted = Vec::new();
        while let Some(number) = self.over_budget(reader.address) {
            evicted.extend(self.evict(number));
        }
        evicted
    }

    /// Closes the account of a reader and marks the reader as evicted. The mark is set under the lock, so that the reader
    /// does not open another account, from which its older leases would be subtracted.
    fn evict(&mut self, number: u64) -> Option<Arc<Reader>> {
        let reader = self.close(number)?;
        reader.is_evicted.store(true, Ordering::Relaxed);
        Some(reader)
    }

    fn subtract(&mut self, reader: &Reader, bytes: usize) {
        // The account of an evicted reader is closed already.
        let Some(account) = self.readers.get_mut(&reader.number) else {
            return;
        };
        let is_last = account.bytes == bytes + CONNECTION;
        if is_last {
            self.close(reader.number);
            return;
        }
        account.bytes -= bytes;
        self.total -= bytes;
        self.subtract_from_address(reader.address, bytes);
    }

    /// Removes a reader's account with all that it holds.
    fn close(&mut self, number: u64) -> Option<Arc<Reader>> {
        let Account { reader, bytes } = self.readers.remove(&number)?;
        self.total -= bytes;
        self.subtract_from_address(reader.address, bytes);
        Some(reader)
    }

    fn subtract_from_address(&mut self, address: Option<IpPrefix>, bytes: usize) {
        if let Some(held) = self.addresses.get_mut(&address) {
            *held -= bytes;
            if *held == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Returns the reader to evict if a budget is exceeded after an increase for this address.
    fn over_budget(&self, address: Option<IpPrefix>) -> Option<u64> {
        let held = |address| self.addresses.get(&address).copied().unwrap_or_default();
        let from = match address {
            Some(_) if held(address) > BUDGET_OF_ADDRESS => address,
            _ if self.total > BUDGET => *self.addresses.iter().max_by_key(|(_, held)| **held)?.0,
            _ => return None,
        };
        let readers = self
            .readers
            .iter()
            .filter(|(_, account)| account.reader.address == from);
        let most = readers.max_by_key(|(number, account)| (account.bytes, Reverse(**number)));
        most.map(|(number, _)| *number)
    }
}

/// A connection on the public port, as a reader of responses.
#[derive(Debug)]
pub struct Reader {
    budget: Arc<ResponseBudget>,
    number: u64,
    address: Option<IpPrefix>,
    is_evicted: AtomicBool,
    evicted: Notify,
}

impl Reader {
    /// Acquires a lease for a response that holds `bytes` bytes of its own. Exceeding a budget evicts a reader instead of
    /// failing.
    pub fn try_acquire(self: &Arc<Self>, bytes: usize) -> BudgetLease {
        let bytes = bytes + ANSWER;
        let evicted = self.budget.lock().add(self, bytes);
        for reader in evicted {
            reader.log_eviction();
        }
        BudgetLease {
            reader: Arc::clone(self),
            bytes,
        }
    }

    /// Requests that the connection is reset.
    pub fn evict(&self) {
        let was_evicted = {
            let mut ledger = self.budget.lock();
            ledger.close(self.number);
            self.is_evicted.swap(true, Ordering::Relaxed)
        };
        if !was_evicted {
            self.log_eviction();
        }
    }

    /// Completes when the connection must be reset.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    fn log_eviction(&self) {
        self.evicted.notify_one();
        if self.budget.cases.count(RejectReason::Unread) {
            tracing::info!(
                "unread responses use too much memory; reset a connection that uses the most; further ones are not \
                 logged until a minute passes without any"
            );
        }
    }
}

/// Memory of one response, which counts until the lease is dropped.
#[derive(Debug)]
pub struct BudgetLease {
    reader: Arc<Reader>,
    bytes: usize,
}

impl BudgetLease {
    /// Wraps `bytes` so that the lease and `with` live until the last clone of the bytes is dropped.
    pub fn keep_with<T: Send + 'static>(self, bytes: Bytes, with: T) -> Bytes {
        Bytes::from_owner(Leased {
            bytes,
            _kept: (self, with),
        })
    }
}

impl Drop for BudgetLease {
    fn drop(&mut self) {
        self.reader.budget.lock().subtract(&self.reader, self.bytes);
    }
}

struct Leased<T> {
    bytes: Bytes,
    _kept: T,
}

impl<T> AsRef<[u8]> for Leased<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn total(budget: &ResponseBudget) -> usize {
        budget.lock().total
    }

    #[test]
    fn a_lease_lives_as_long_as_its_bytes() {
        let budget = Arc::new(ResponseBudget::default());
        let reader = budget.reader(ip(1));
        let bytes = reader.try_acquire(100).keep_with(Bytes::from_static(b"an answer"), ());
        let (first, second) = (bytes.slice(..2), bytes.slice(2..));
        drop((bytes, first));
        assert_eq!(total(&budget), CONNECTION + ANSWER + 100);
        assert_eq!(&second[..], b" answer");
        drop(second);
        assert_eq!(total(&budget), 0);
        let ledger = budget.lock();
        assert!(ledger.readers.is_empty() && ledger.addresses.is_empty());
    }

    #[test]
    fn over_budget_the_largest_reader_of_the_address_is_evicted() {
        let budget = Arc::new(ResponseBudget::default());
        let [small, large, newest, other] = [1, 1, 1, 2].map(|last| budget.reader(ip(last)));
        let mut leases = vec![small.try_acquire(1_000), other.try_acquire(BUDGET_OF_ADDRESS / 4)];
        leases.extend((0..3).map(|_| large.try_acquire(BUDGET_OF_ADDRESS / 4)));
        assert!(!large.is_evicted());
        leases.push(newest.try_acquire(BUDGET_OF_ADDRESS / 2));
        assert!(large.is_evicted());
        assert!(!small.is_evicted() && !newest.is_evicted() && !other.is_evicted());
        // A lease dropped after the eviction is not subtracted twice, and one acquired after it does not count.
        leases.push(large.try_acquire(BUDGET));
        drop(leases);
        assert_eq!(total(&budget), 0);
    }

    #[test]
    fn an_evicted_reader_is_not_charged_before_it_is_notified() {
        let budget = Arc::new(ResponseBudget::default());
        let reader = budget.reader(ip(1));
        let older = reader.try_acquire(10_000);
        // Another worker evicts it like this, and notifies the reader later.
        let evicted = budget.lock().evict(reader.number);
        let newer = reader.try_acquire(0);
        assert_eq!(total(&budget), 0);
        drop((older, newer));
        assert_eq!(total(&budget), 0);
        assert!(evicted.is_some_and(|evicted| Arc::ptr_eq(&evicted, &reader)));
    }

    #[test]
    fn a_new_reader_evicts_the_address_that_holds_most() {
        let budget = Arc::new(ResponseBudget::default());
        let share = BUDGET / 3 - CONNECTION - ANSWER;
        let crowd = [1, 2, 3].map(|last| budget.reader(ip(last)));
        let _held: Vec<_> = (0..)
            .zip(&crowd)
            .map(|(more, reader)| reader.try_acquire(share - more))
            .collect();
        let newcomer = budget.reader(ip(4));
        let _lease = newcomer.try_acquire(1_000);
        assert!(crowd[0].is_evicted());
        assert!(!crowd[1].is_evicted() && !crowd[2].is_evicted() && !newcomer.is_evicted());
    }

    #[test]
    fn loopback_has_no_budget_per_address() {
        let budget = Arc::new(ResponseBudget::default());
        let readers: Vec<_> = (0..3).map(|_| budget.reader(IpAddr::from([127, 0, 0, 1]))).collect();
        let book = |reader: &Arc<Reader>| reader.try_acquire(BUDGET_OF_ADDRESS / 2 + 1);
        let mut held: Vec<_> = readers[..2].iter().map(book).collect();
        assert!(!readers[0].is_evicted());
        held.extend([&readers[2], &readers[2]].map(book));
        assert!(readers[2].is_evicted(), "but a part in that of all");
    }

    #[tokio::test]
    async fn an_eviction_before_the_wait_wakes_the_connection() {
        let reader = Arc::new(ResponseBudget::default()).reader(ip(1));
        reader.evict();
        reader.evicted().await;
    }
}
