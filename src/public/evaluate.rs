//! The evaluation of filters and searches: what a stranger can make expensive, at a price that is bounded.
//!
//! - It is done in slices of [`SLICE`], with other tasks in between, and for one request per worker at a time.
//! - A request gets no more than [`CPU_LIMIT`], an address what its permitted requests bring
//!   ([`Address`](crate::limits::Address)). What counts is CPU time: a busy machine is no client's fault.
//! - The outcome is kept with the snapshot: asked again, it is looked up.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::selection::{Evaluation, Matches, Outcome, Selector, Unanswerable};
use super::snapshot::Snapshot;
use crate::client::Client;
use crate::reply::Refusal;

use std::sync::Arc;

/// How long other tasks of the worker wait for it: as long as for a turn of a large transfer.
const SLICE: Duration = Duration::from_micros(250);
/// Several times what eight clauses take with 50,000 images.
const CPU_LIMIT: Duration = Duration::from_millis(250);
/// How long a request waits for its turn among others that are evaluated.
const PATIENCE: Duration = Duration::from_secs(2);

/// The images that a client has selected.
pub(super) async fn select(client: &Client, snapshot: &Snapshot, selector: &Selector) -> Result<Arc<Matches>, Refusal> {
    if selector.is_empty() {
        return Ok(Arc::new(Matches::all(snapshot.number_of_images())));
    }
    let outcome = match snapshot.outcomes().get(selector) {
        Some(outcome) => outcome,
        None => evaluate_in_turn(client, snapshot, selector).await?,
    };
    outcome.map_err(|problem| Refusal::bad_request(&problem.to_string()))
}

async fn evaluate_in_turn(client: &Client, snapshot: &Snapshot, selector: &Selector) -> Result<Outcome, Refusal> {
    let worker = &client.worker;
    let allow = || worker.allow_evaluation(client.peer.address.ip(), client.counted_by.as_deref());
    allow()?;
    let turn = timeout(PATIENCE, worker.evaluation().acquire()).await;
    let _turn = turn.map_err(|_| Refusal::Busy)?.map_err(|_| Refusal::Busy)?;
    // Others of the same address, or with the same question, may have been first.
    if let Some(outcome) = snapshot.outcomes().get(selector) {
        return Ok(outcome);
    }
    allow()?;
    let outcome = evaluate(client, snapshot, selector).await;
    snapshot.outcomes().keep(selector.clone(), outcome.clone());
    Ok(outcome)
}

async fn evaluate(client: &Client, snapshot: &Snapshot, selector: &Selector) -> Outcome {
    let mut evaluation = Evaluation::new(snapshot, selector);
    let mut spent = Duration::ZERO;
    loop {
        let (begun, before) = (Instant::now(), cpu_time());
        let end = evaluation.advance(|| begun.elapsed() >= SLICE);
        let slice = cpu_time().saturating_sub(before);
        client.worker.charge(client.counted_by.as_deref(), slice);
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
