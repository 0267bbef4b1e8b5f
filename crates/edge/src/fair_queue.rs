//! Queues of clients' tasks in which the networks take turns, so that a crowd from one network delays itself.
//!
//! The /48s (IPv4: /24s) take turns, within each its /56s, and within each of these its /64s (IPv4: addresses): a client gets
//! no more turns for having many addresses.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::admission::per_ip::IpPrefix;

/// A queue in which the networks take turns.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// The innermost networks only have entries, the others only have networks.
    entries: VecDeque<T>,
    networks: HashMap<u128, Self>,
    /// The networks, in the order of their turns.
    order: VecDeque<u128>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            networks: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn push(&mut self, client: IpAddr, entry: T) {
        let innermost = IpPrefix::of(client).networks().into_iter().fold(self, Self::network);
        innermost.entries.push_back(entry);
    }

    fn network(&mut self, network: u128) -> &mut Self {
        self.networks.entry(network).or_insert_with(|| {
            self.order.push_back(network);
            Self::default()
        })
    }

    /// Removes the next entry that is still wanted, and those before it that are not.
    pub(crate) fn pop(&mut self, is_wanted: &impl Fn(&T) -> bool) -> Option<T> {
        while let Some(network) = self.order.pop_front() {
            let within = self.networks.get_mut(&network)?;
            let next = within.pop(is_wanted);
            match within.is_empty() {
                true => drop(self.networks.remove(&network)),
                false => self.order.push_back(network),
            }
            if next.is_some() {
                return next;
            }
        }
        std::iter::from_fn(|| self.entries.pop_front()).find(is_wanted)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.entries.is_empty()
    }
}

/// A number of turns at a time for the clients of one worker, in the order of a [`FairQueue`].
#[derive(Debug)]
pub(crate) struct FairSemaphore(Rc<Turns>);

#[derive(Debug)]
struct Turns {
    free: Cell<usize>,
    waiting: RefCell<FairQueue<oneshot::Sender<FairPermit>>>,
}

/// A turn. It passes to the next client when it is dropped, be it by a client that was cancelled before it noticed its turn.
#[derive(Debug)]
pub struct FairPermit(Rc<Turns>);

impl FairSemaphore {
    pub(crate) fn new(turns: usize) -> Self {
        Self(Rc::new(Turns {
            free: Cell::new(turns),
            waiting: RefCell::default(),
        }))
    }

    /// Waits for a turn.
    pub(crate) async fn acquire(&self, client: IpAddr) -> FairPermit {
        let Turns { free, waiting } = &*self.0;
        if let Some(left) = free.get().checked_sub(1) {
            free.set(left);
            return FairPermit(Rc::clone(&self.0));
        }
        let (sender, turn) = oneshot::channel();
        waiting.borrow_mut().push(client, sender);
        turn.await.expect("`self` keeps the queue")
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let next = self.0.waiting.borrow_mut().pop(&|client| !client.is_closed());
        match next {
            // It is received, or dropped with the channel: all clients are on this thread, so none has left since.
            Some(client) => drop(client.send(Self(Rc::clone(&self.0)))),
            None => self.0.free.update(|free| free + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn ip(client: &str) -> IpAddr {
        client.parse().unwrap()
    }

    fn queue(clients: &[&'static str]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::default();
        for client in clients {
            queue.push(ip(client), *client);
        }
        queue
    }

    fn drain<T>(mut queue: FairQueue<T>) -> Vec<T> {
        let order = std::iter::from_fn(|| queue.pop(&|_| true)).collect();
        assert!(queue.is_empty() && queue.order.is_empty());
        order
    }

    #[test]
    fn networks_of_each_size_take_turns() {
        let order = drain(queue(&[
            "2001:db8:0:1::1",
            "2001:db8:0:1::2",
            "2001:db8:0:2::1",
            "2001:db8:0:3::1",
            // Another /56, another /48 and two IPv4 networks.
            "2001:db8:0:100::1",
            "2001:db8:1::1",
            "192.0.2.1",
            "192.0.2.2",
            "198.51.100.1",
        ]));
        let expected = [
            "2001:db8:0:1::1",
            "2001:db8:1::1",
            "192.0.2.1",
            "198.51.100.1",
            "2001:db8:0:100::1",
            "192.0.2.2",
            "2001:db8:0:2::1",
            "2001:db8:0:3::1",
            "2001:db8:0:1::2",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn many_prefixes_of_one_client_have_one_turn_in_a_round() {
        let mut queue = FairQueue::default();
        for n in 0..256 {
            queue.push(ip(&format!("2001:db8:0:{n:x}::1")), "crowd");
        }
        for _ in 0..10 {
            queue.push(ip("192.0.2.1"), "other");
        }
        let order = drain(queue);
        assert!(
            order[..20].chunks(2).all(|round| round == ["crowd", "other"]),
            "{order:?}"
        );
    }

    #[test]
    fn unwanted_entries_use_no_turn() {
        let mut queue = queue(&["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(queue.pop(&|client| *client != "192.0.2.1"), Some("192.0.2.2"));
        assert_eq!(queue.pop(&|client| *client != "2001:db8::1"), None);
        assert!(queue.is_empty());
    }

    type Turn = Pin<Box<dyn Future<Output = FairPermit>>>;

    /// Begins to wait for a turn.
    fn wait(semaphore: &Rc<FairSemaphore>, client: &'static str) -> Turn {
        let semaphore = Rc::clone(semaphore);
        let mut turn: Turn = Box::pin(async move { semaphore.acquire(ip(client)).await });
        assert!(poll(&mut turn).is_none());
        turn
    }

    fn poll(turn: &mut (impl Future<Output = FairPermit> + Unpin)) -> Option<FairPermit> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(turn).poll(&mut context) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    fn take(semaphore: &FairSemaphore) -> FairPermit {
        poll(&mut Box::pin(semaphore.acquire(ip("192.0.2.1")))).unwrap()
    }

    #[test]
    fn a_dropped_permit_passes_to_the_next_network() {
        let semaphore = Rc::new(FairSemaphore::new(2));
        let (first, second) = (take(&semaphore), take(&semaphore));
        let mut crowd = [wait(&semaphore, "192.0.2.1"), wait(&semaphore, "192.0.2.1")];
        let mut other = wait(&semaphore, "198.51.100.1");
        drop(first);
        let permit = poll(&mut crowd[0]).unwrap();
        assert!(poll(&mut crowd[1]).is_none() && poll(&mut other).is_none());
        drop(permit);
        let permit = poll(&mut other).unwrap();
        drop((permit, second));
        drop(poll(&mut crowd[1]).unwrap());
        assert_eq!(semaphore.0.free.get(), 2);
    }

    #[test]
    fn cancelled_clients_keep_no_turn() {
        let semaphore = Rc::new(FairSemaphore::new(1));
        let permit = take(&semaphore);
        let left = wait(&semaphore, "192.0.2.1");
        let leaves = wait(&semaphore, "192.0.2.2");
        let mut last = wait(&semaphore, "192.0.2.3");
        drop(left);
        drop(permit);
        assert!(poll(&mut last).is_none());
        // It has been given the turn, and was not polled since.
        drop(leaves);
        drop(poll(&mut last).unwrap());
        drop(take(&semaphore));
        assert_eq!(semaphore.0.free.get(), 1);
        assert!(semaphore.0.waiting.borrow().is_empty());
    }
}
