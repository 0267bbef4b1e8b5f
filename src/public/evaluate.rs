//! Evaluation of filters and searches within a CPU budget. They are the only requests of anonymous clients that can be
//! expensive.
//!
//! - Evaluation runs in slices of [`SLICE`] with other tasks in between, one request per worker at a time.
//! - A request gets at most [`CPU_LIMIT`], and an address and the networks around it the budget of its permitted requests
//!   ([`ClientBucket`](edge::admission::ClientBucket)). The budget is in CPU time, so that clients do not pay for a
//!   busy machine.
//! - The outcome is cached with the snapshot: repeated queries only look it up.
//! - Serializing the selected images counts toward the same budget. For a filter that matches nearly every image, it
//!   costs as much as the evaluation, and recurs with every repetition.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge::admission::{ClientBucket, Limiter, RejectReason, Rejection};
use edge::connection::context::ConnectionContext;
use edge::response::{Reply, ReplyBody};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::evaluation::Evaluation;
use super::selection::{Matches, Outcome, Selector, Unanswerable};
use super::snapshot::Snapshot;
use crate::reply::HttpError;
use crate::state::State;

/// CPU time between yields to the worker's other tasks: as long as a large transfer runs between its yields.
const SLICE: Duration = Duration::from_micros(250);
/// Several times what eight clauses take with 50,000 images.
const CPU_LIMIT: Duration = Duration::from_millis(250);
/// Maximum time that a request waits for other evaluations.
const PATIENCE: Duration = Duration::from_secs(2);

/// Number of selected images up to which a response costs no more than any other.
const FEW: usize = 100;

/// What filters and searches may cost on one worker. It allows one evaluation at a time, so other tasks wait for at most one
/// slice of it, however many evaluations are queued.
#[derive(Debug)]
pub struct EvaluationBudget {
    state: watch::Receiver<Arc<State>>,
    limiter: Arc<Limiter>,
    turn: Semaphore,
}

impl EvaluationBudget {
    /// Creates the budget of a worker.
    pub fn new(state: watch::Receiver<Arc<State>>, limiter: Arc<Limiter>) -> Self {
        Self {
            state,
            limiter,
            turn: Semaphore::new(1),
        }
    }

    /// Checks whether a stranger's filter or search may be evaluated, by the CPU time that the address has used.
    fn check(&self, client: &ConnectionContext) -> Result<(), Rejection> {
        let Some(Err(wait)) = client.counted_by.as_deref().map(ClientBucket::has_cpu_time) else {
            return Ok(());
        };
        if self.limiter.count(RejectReason::Cpu) {
            tracing::info!(
                "limits.requests_per_second: rejected a filter or search from {}: more than 1 ms of CPU time for \
                 each request that this address may send, or several times as much for its network; further ones are not \
                 logged until a minute passes without any",
                client.peer.address.ip()
            );
        }
        Err(Rejection::TooMuchCpu(wait))
    }

    /// Charges an address for the CPU time of an evaluation slice.
    fn charge(&self, counted_by: Option<&ClientBucket>, cpu: Duration) {
        if let Some(address) = counted_by {
            address.charge_cpu_time(cpu, self.state.borrow().edge.limits.requests_per_second);
        }
    }
}

/// Returns the images that match the selector.
pub(super) async fn select(
    budget: &EvaluationBudget,
    client: &ConnectionContext,
    snapshot: &Snapshot,
    selector: &Selector,
) -> Result<Arc<Matches>, HttpError> {
    if selector.is_empty() {
        return Ok(Arc::new(Matches::all(snapshot.number_of_images())));
    }
    let outcome = match snapshot.outcomes().get(selector) {
        Some(outcome) => {
            if outcome.as_ref().is_ok_and(|matches| matches.count() > FEW) {
                budget.check(client)?;
            }
            outcome
        }
        None => evaluate_in_turn(budget, client, snapshot, selector).await?,
    };
    outcome.map_err(|problem| HttpError::bad_request(&problem.to_string()))
}

/// Charges the client for the CPU time of the response's streamed parts.
pub(super) fn at_cost(budget: &Rc<EvaluationBudget>, client: &ConnectionContext, reply: Reply) -> Reply {
    let (budget, counted_by) = (Rc::clone(budget), client.counted_by.clone());
    reply.map(|body| match body {
        ReplyBody::Parts(parts) => ReplyBody::Parts(Box::new(Charged {
            parts,
            charge: move |cpu| budget.charge(counted_by.as_deref(), cpu),
        })),
        body => body,
    })
}

struct Charged<P, C> {
    parts: P,
    charge: C,
}

impl<P: Iterator, C: Fn(Duration)> Iterator for Charged<P, C> {
    type Item = P::Item;

    fn next(&mut self) -> Option<P::Item> {
        let before = cpu_time();
        let part = self.parts.next();
        (self.charge)(cpu_time().saturating_sub(before));
        part
    }
}

async fn evaluate_in_turn(
    budget: &EvaluationBudget,
    client: &ConnectionContext,
    snapshot: &Snapshot,
    selector: &Selector,
) -> Result<Outcome, HttpError> {
    budget.check(client)?;
    let turn = timeout(PATIENCE, budget.turn.acquire()).await;
    let _turn = turn.map_err(|_| HttpError::Busy)?.map_err(|_| HttpError::Busy)?;
    // Other requests from this address, or for the same selector, may have run meanwhile.
    if let Some(outcome) = snapshot.outcomes().get(selector) {
        return Ok(outcome);
    }
    budget.check(client)?;
    let charge = |cpu| budget.charge(client.counted_by.as_deref(), cpu);
    let outcome = evaluate(snapshot, selector, charge).await;
    // Do not cache a timeout: lowercase texts are cached, so the next attempt may get further.
    if !matches!(outcome, Err(Unanswerable::TooMuchCpu)) {
        snapshot.outcomes().keep(selector.clone(), outcome.clone());
    }
    Ok(outcome)
}

async fn evaluate(snapshot: &Snapshot, selector: &Selector, charge: impl Fn(Duration)) -> Outcome {
    let mut evaluation = Evaluation::new(snapshot, selector);
    let mut spent = Duration::ZERO;
    loop {
        let (begun, before) = (Instant::now(), cpu_time());
        let end = evaluation.advance(|| begun.elapsed() >= SLICE);
        let slice = cpu_time().saturating_sub(before);
        charge(slice);
        if let Some(end) = end {
            return Ok(Arc::new(end?));
        }
        spent += slice;
        if spent > CPU_LIMIT {
            return Err(Unanswerable::TooMuchCpu);
        }
        yield_now().await;
    }
}

/// CPU time of the current thread so far.
fn cpu_time() -> Duration {
    // The kernel returns no negative values.
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use serde_json::json;

    use super::*;
    use crate::config::Visibility;
    use crate::public::filter::Filter;
    use crate::public::streamed_list;

    fn snapshot(images: usize) -> Snapshot {
        let image = |number: usize| {
            json!({
                "public": true, "architecture": "x86_64", "fingerprint": format!("{number:064x}"), "size": 1,
                "type": "container", "properties": {"description": format!("Debian {number} with Tools")},
            })
        };
        let images: Vec<_> = (0..images).map(image).collect();
        let images = json!({ "metadata": images }).to_string();
        Snapshot::parse(br#"{"metadata": {}}"#, images.as_bytes(), Visibility::Public).expect("valid image list")
    }

    fn filter(text: &str) -> Selector {
        Selector::Filter(Filter::parse(text).expect("valid filter"))
    }

    #[test]
    fn each_part_of_a_response_is_charged_when_written() {
        let all = Arc::new(Matches::all(2_000));
        let (_, body) = streamed_list::reply(Arc::new(snapshot(2_000)), all, true).into_parts();
        let ReplyBody::Parts(parts) = body else {
            panic!("it is written while it is sent");
        };
        let charged = RefCell::new(Vec::new());
        let charge = |cpu| charged.borrow_mut().push(cpu);
        let before = cpu_time();
        let parts = Charged { parts, charge }.count();
        let took = cpu_time() - before;
        let charged = charged.into_inner();
        assert!(parts > 10 && charged.len() == parts + 1, "{parts}, {charged:?}");
        let sum: Duration = charged.iter().sum();
        assert!(sum <= took && sum * 2 > took, "charged {sum:?} of {took:?}");
    }

    #[test]
    fn other_tasks_run_between_slices_and_each_slice_is_charged() {
        let snapshot = snapshot(20_000);
        let words = Selector::Words(vec!["debian".to_owned(), "tools".to_owned()]);
        let usual = filter("properties.description eq .*with.*tools.* and architecture eq x86_64");
        let runtime = edge::worker::runtime().expect("the runtime starts");
        for selector in [usual, words] {
            let (turns, is_over) = (Cell::new(0), Cell::new(false));
            let charged = RefCell::new(Vec::new());
            let before = cpu_time();
            let evaluation = async {
                let outcome = evaluate(&snapshot, &selector, |cpu| charged.borrow_mut().push(cpu)).await;
                is_over.set(true);
                outcome
            };
            let others = async {
                while !is_over.get() {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            };
            let outcome = runtime.block_on(async { tokio::join!(evaluation, others).0 });
            let took = cpu_time() - before;
            let charged = charged.into_inner();
            assert!(turns.get() >= charged.len() - 1, "{} turns", turns.get());
            assert!(charged.len() > 3, "{charged:?}");
            let sum: Duration = charged.iter().sum();
            assert!(sum <= took && sum * 2 > took, "charged {sum:?} of {took:?}");
            match outcome {
                Ok(matches) => assert_eq!(matches.count(), 20_000),
                // A debug build may exceed the limit.
                Err(error) => assert!(matches!(error, Unanswerable::TooMuchCpu) && sum > CPU_LIMIT, "{error}"),
            }
        }
    }
}
