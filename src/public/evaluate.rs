//! The evaluation of filters and searches: what a stranger can make expensive, at a price that is bounded.
//!
//! - It is done in slices of [`SLICE`], with other tasks in between, and for one request per worker at a time.
//! - A request gets no more than [`CPU_LIMIT`], an address what its permitted requests bring
//!   ([`Address`](crate::limits::Address)). What counts is CPU time: a busy machine is no client's fault.
//! - The outcome is kept with the snapshot: asked again, it is looked up.
//! - To write what was selected is paid for from the same purse: a filter that selects nearly everything is no cheaper to answer
//!   than to evaluate, however often it was asked before.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::evaluation::Evaluation;
use super::selection::{Matches, Outcome, Selector, Unanswerable};
use super::snapshot::Snapshot;
use crate::connection::context::ConnectionContext;
use crate::reply::{HttpError, Reply, ReplyBody};

/// How long other tasks of the worker wait for it: as long as for a turn of a large transfer.
const SLICE: Duration = Duration::from_micros(250);
/// Several times what eight clauses take with 50,000 images.
const CPU_LIMIT: Duration = Duration::from_millis(250);
/// How long a request waits for its turn among others that are evaluated.
const PATIENCE: Duration = Duration::from_secs(2);

/// To write so few images costs no more than any other answer.
const FEW: usize = 100;

/// The images that a client has selected.
pub(super) async fn select(
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
                allow(client)?;
            }
            outcome
        }
        None => evaluate_in_turn(client, snapshot, selector).await?,
    };
    outcome.map_err(|problem| HttpError::bad_request(&problem.to_string()))
}

/// Has a client pay for the parts of an answer that are written for it alone.
pub(super) fn at_cost(client: &ConnectionContext, reply: Reply) -> Reply {
    let (worker, counted_by) = (Rc::clone(&client.worker), client.counted_by.clone());
    reply.map(|body| match body {
        ReplyBody::Parts(parts) => ReplyBody::Parts(Box::new(Charged {
            parts,
            charge: move |cpu| worker.charge(counted_by.as_deref(), cpu),
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

fn allow(client: &ConnectionContext) -> Result<(), HttpError> {
    let (worker, address) = (&client.worker, client.peer.address.ip());
    let allowed = worker.allow_evaluation(address, client.counted_by.as_deref());
    allowed.map_err(HttpError::from)
}

async fn evaluate_in_turn(
    client: &ConnectionContext,
    snapshot: &Snapshot,
    selector: &Selector,
) -> Result<Outcome, HttpError> {
    let worker = &client.worker;
    allow(client)?;
    let turn = timeout(PATIENCE, worker.evaluation().acquire()).await;
    let _turn = turn.map_err(|_| HttpError::Busy)?.map_err(|_| HttpError::Busy)?;
    // Others of the same address, or with the same question, may have been first.
    if let Some(outcome) = snapshot.outcomes().get(selector) {
        return Ok(outcome);
    }
    allow(client)?;
    let charge = |cpu| worker.charge(client.counted_by.as_deref(), cpu);
    let outcome = evaluate(snapshot, selector, charge).await;
    // The next one who asks may come further: texts in lower case are made once.
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

/// What this thread has had so far.
fn cpu_time() -> Duration {
    // The kernel says neither of them below zero.
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
        Snapshot::parse(br#"{"metadata": {}}"#, images.as_bytes(), Visibility::Public).expect("as Incus has it")
    }

    fn filter(text: &str) -> Selector {
        Selector::Filter(Filter::parse(text).expect("a filter"))
    }

    #[test]
    fn each_part_of_an_answer_is_charged_as_it_is_written() {
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
        let runtime = crate::worker::runtime().expect("a runtime");
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
                // A build that is not optimised may not come to the end.
                Err(error) => assert!(matches!(error, Unanswerable::TooMuchCpu) && sum > CPU_LIMIT, "{error}"),
            }
        }
    }
}
