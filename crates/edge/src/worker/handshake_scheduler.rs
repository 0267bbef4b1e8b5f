//! Scheduling of the expensive part of TLS handshakes.
//!
//! rustls performs a handshake's key exchange and signature within one poll: most of a millisecond with an RSA-2048 key,
//! several with RSA-4096. If thousands of clients send their first message at once, thousands of such polls are ready at
//! once, and everything else waits. A worker therefore runs at most [`STEPS`] handshake steps before every other ready task
//! has run. Additional handshakes are queued: those of authenticated listeners first, and under each policy the networks take turns
//! ([`FairQueue`]).
//!
//! Without a queue, a step costs only a counter update and a wake-up of the task that begins the next round.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::fair_queue::FairQueue;
use crate::listener_id::Policy;

/// Steps per round: enough for handshakes to keep their share of a worker that also moves data, and few enough that a dozen
/// rounds, which an administrator's new connection with its first request needs, are not noticeable.
const STEPS: usize = 4;
/// Number of consecutive turns for authenticated listeners before one for open ones, if a handshake waits there. A flood on
/// the former therefore does not block the latter.
const AUTHENTICATED_IN_A_ROW: usize = 3;

/// Handshake scheduler of one worker.
#[derive(Debug)]
pub struct HandshakeScheduler {
    /// Remaining steps of this round.
    left: Cell<usize>,
    queue: RefCell<Queue>,
    /// Notified of the first step in a round.
    begun: Notify,
}

impl Default for HandshakeScheduler {
    fn default() -> Self {
        Self {
            left: Cell::new(STEPS),
            queue: RefCell::default(),
            begun: Notify::new(),
        }
    }
}

impl HandshakeScheduler {
    /// Runs the rounds. All tasks that are ready run between two rounds.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            while self.begin_round() {
                yield_now().await;
            }
        }
    }

    /// Begins a round. Returns `false` if the queue was empty.
    fn begin_round(&self) -> bool {
        self.left.set(STEPS);
        let mut queue = self.queue.borrow_mut();
        while self.left.get() > 0
            && let Some(turn) = queue.next()
        {
            self.left.update(|left| left - 1);
            turn.is_given.set(true);
            turn.waker.borrow().wake_by_ref();
        }
        self.left.get() < STEPS
    }

    /// Performs a handshake, each step in its turn. Returns `None` if the client took longer than `time_limit`. The time that
    /// the handshake waited for its turns does not count, up to another `time_limit`.
    pub async fn tls_handshake<H: Future + Unpin>(
        &self,
        policy: Policy,
        client: IpAddr,
        time_limit: Duration,
        mut handshake: H,
    ) -> Option<H::Output> {
        let mut due = Instant::now() + time_limit;
        let latest = due + time_limit;
        let mut timer = pin!(sleep(time_limit));
        let mut waiting: Option<Rc<Turn>> = None;
        std::future::poll_fn(|cx| {
            if self.poll_turn(policy, client, &mut waiting, &mut due, cx).is_ready()
                && let Poll::Ready(output) = Pin::new(&mut handshake).poll(cx)
            {
                return Poll::Ready(Some(output));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let waited = waiting.as_ref().map_or(Duration::ZERO, |turn| turn.since.elapsed());
                let due = latest.min(due + waited);
                if due <= Instant::now() {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// Completes when the next step may run, and extends `due` by the waiting time.
    fn poll_turn(
        &self,
        policy: Policy,
        client: IpAddr,
        waiting: &mut Option<Rc<Turn>>,
        due: &mut Instant,
        cx: &Context<'_>,
    ) -> Poll<()> {
        if let Some(turn) = waiting {
            if !turn.is_given.get() {
                turn.waker.borrow_mut().clone_from(cx.waker());
                return Poll::Pending;
            }
            *due += turn.since.elapsed();
            *waiting = None;
            return Poll::Ready(());
        }
        match self.left.get() {
            0 => {
                let turn = Rc::new(Turn {
                    since: Instant::now(),
                    is_given: Cell::new(false),
                    waker: RefCell::new(cx.waker().clone()),
                });
                self.queue.borrow_mut().push(policy, client, Rc::clone(&turn));
                *waiting = Some(turn);
                Poll::Pending
            }
            left => {
                self.left.set(left - 1);
                if left == STEPS {
                    self.begun.notify_one();
                }
                Poll::Ready(())
            }
        }
    }
}

/// A queued handshake.
#[derive(Debug)]
struct Turn {
    since: Instant,
    is_given: Cell<bool>,
    waker: RefCell<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    authenticated: FairQueue<Rc<Turn>>,
    open: FairQueue<Rc<Turn>>,
    authenticated_in_a_row: usize,
}

impl Queue {
    fn push(&mut self, policy: Policy, client: IpAddr, turn: Rc<Turn>) {
        match policy {
            Policy::Authenticated => self.authenticated.push(client, turn),
            Policy::Open => self.open.push(client, turn),
        }
    }

    fn next(&mut self) -> Option<Rc<Turn>> {
        // A turn whose handshake has been cancelled has no other owner than the queue.
        let is_wanted = |turn: &Rc<Turn>| Rc::strong_count(turn) > 1;
        if self.authenticated_in_a_row < AUTHENTICATED_IN_A_ROW
            && let Some(turn) = self.authenticated.pop(&is_wanted)
        {
            self.authenticated_in_a_row += 1;
            return Some(turn);
        }
        self.authenticated_in_a_row = 0;
        self.open.pop(&is_wanted).or_else(|| self.authenticated.pop(&is_wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    /// Returns a handshake with `count` steps that records each of them by `name`.
    fn steps(
        name: &'static str,
        count: usize,
        taken: &Rc<RefCell<Vec<&'static str>>>,
    ) -> impl Future<Output = ()> + Unpin + use<> {
        let taken = Rc::clone(taken);
        let mut left = count;
        poll_fn(move |cx| {
            taken.borrow_mut().push(name);
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Starts these handshakes at once, by port and client, and returns the order of their steps. `.` is a turn of another
    /// task that is always ready.
    async fn order(handshakes: &[(&'static str, Policy, &'static str)]) -> Vec<&'static str> {
        let queue = Rc::new(HandshakeScheduler::default());
        let taken = Rc::new(RefCell::new(Vec::new()));
        let begin = |(name, policy, client): &(&'static str, Policy, &'static str)| {
            let (queue, handshake) = (Rc::clone(&queue), steps(name, 1, &taken));
            let (policy, client) = (*policy, client.parse().unwrap());
            tokio::task::spawn_local(async move {
                queue
                    .tls_handshake(policy, client, Duration::from_secs(60), handshake)
                    .await
            })
        };
        let all: Vec<_> = handshakes.iter().map(begin).collect();
        tokio::task::spawn_local(Rc::clone(&queue).run());
        let noted = Rc::clone(&taken);
        let other = tokio::task::spawn_local(async move {
            loop {
                noted.borrow_mut().push(".");
                yield_now().await;
            }
        });
        for handshake in all {
            assert_eq!(handshake.await.unwrap(), Some(()));
        }
        other.abort();
        taken.take()
    }

    fn run<F: Future>(test: F) -> F::Output {
        crate::worker::runtime().unwrap().block_on(test)
    }

    #[test]
    fn other_tasks_run_after_a_few_handshake_steps() {
        let crowd = [("x", Policy::Open, "192.0.2.1"); 100];
        let order = run(order(&crowd));
        let most = order.split(|taken| *taken == ".").map(<[_]>::len).max();
        assert_eq!(most, Some(STEPS), "{order:?}");
        assert_eq!(order.iter().filter(|taken| **taken == "x").count(), 100);
    }

    #[test]
    fn the_admin_port_and_small_networks_go_first() {
        let mut all = vec![("x", Policy::Open, "192.0.2.1"); 100];
        all.push(("other", Policy::Open, "192.0.2.2"));
        all.extend([("admin", Policy::Authenticated, "192.0.2.1"); 20]);
        let order: Vec<_> = run(order(&all)).into_iter().filter(|taken| *taken != ".").collect();
        let last = |name| order.iter().rposition(|taken| *taken == name).unwrap();
        assert!(last("other") <= STEPS + 2 * (AUTHENTICATED_IN_A_ROW + 1), "{order:?}");
        // One in four turns belongs to the public port.
        assert!(
            last("admin") <= STEPS + 20 + 20 / AUTHENTICATED_IN_A_ROW + 1,
            "{order:?}"
        );
        assert!(order[..last("admin")].iter().filter(|taken| **taken == "x").count() > STEPS);
    }

    #[test]
    fn cancelled_handshakes_are_skipped() {
        let queue = HandshakeScheduler::default();
        queue.left.set(0);
        let (client, context) = ("192.0.2.1".parse().unwrap(), Context::from_waker(Waker::noop()));
        run(async {
            let mut due = Instant::now();
            let mut turns: Vec<Option<Rc<Turn>>> = (0..100).map(|_| None).collect();
            for turn in &mut turns {
                assert!(
                    queue
                        .poll_turn(Policy::Open, client, turn, &mut due, &context)
                        .is_pending()
                );
            }
            let mut last = turns.pop().unwrap();
            drop(turns);
            assert!(queue.begin_round());
            assert!(
                queue
                    .poll_turn(Policy::Open, client, &mut last, &mut due, &context)
                    .is_ready()
            );
            assert!(!queue.begin_round(), "nobody is left");
            assert!(queue.queue.borrow().open.is_empty());
        });
    }

    #[test]
    fn waiting_for_a_turn_does_not_count_as_the_clients_time() {
        let begun = std::time::Instant::now();
        let time_limit = Duration::from_millis(200);
        let queue = HandshakeScheduler::default();
        let client = "192.0.2.1".parse().unwrap();
        run(async {
            // A client that sends nothing.
            let silent = std::future::pending::<()>();
            assert_eq!(
                queue.tls_handshake(Policy::Open, client, time_limit, silent).await,
                None
            );
            let silence = begun.elapsed();
            assert!(silence >= time_limit);
            // No round begins.
            queue.left.set(0);
            let ready = std::future::ready(());
            assert_eq!(queue.tls_handshake(Policy::Open, client, time_limit, ready).await, None);
            assert!(begun.elapsed() >= silence + 2 * time_limit, "as much again");
        });
    }
}
