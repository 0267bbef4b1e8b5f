//! The activity of a connection, and its timeouts.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::{MinRate, ResettableSleep, Stranger};
use crate::limits::Limits;
use crate::listener_id::Policy;

/// Time for a client that was rejected on the admin port to read the response and close the connection.
const REJECTED_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of streams that a client may open after the last response. As many may be in flight when the client learns
/// that no further stream is answered: the maximum number of concurrent streams. A client that sends more ignores the GOAWAY
/// frame.
const MAX_LATE: u8 = 100;

/// State of a connection, updated by everything that serves it on its worker.
#[derive(Default)]
pub(crate) struct ConnectionActivity {
    /// Number of responses in flight.
    answers: Cell<usize>,
    /// Number of requests so far.
    requests: Cell<usize>,
    /// Whether any byte has arrived since the last request. The stream sets it, and hyper requires the stream to be `Send`.
    heard: Arc<AtomicBool>,
    /// Whether its bytes are read without a limit, because the client has become an administrator. For the stream too.
    is_input_unlimited: Arc<AtomicBool>,
    /// Whether further requests are not answered.
    leaving: Cell<bool>,
    /// Number of streams opened since then.
    late: Cell<u8>,
    /// Counts responses in flight too: without one, a new connection may evict this one.
    stranger: Option<Arc<Stranger>>,
    /// The rate tracker of the response that has just begun, for the task that polls it.
    begun: Cell<Option<Rc<MinRate>>>,
}

impl fmt::Debug for ConnectionActivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut activity = f.debug_struct("Activity");
        activity.field("answers", &self.answers).finish_non_exhaustive()
    }
}

impl ConnectionActivity {
    pub(crate) fn new(stranger: Option<Arc<Stranger>>) -> Self {
        Self {
            stranger,
            ..Self::default()
        }
    }

    /// Counts a request, which is in flight until the guard is dropped. Returns `None` if the connection has been evicted.
    pub(crate) fn answer(self: &Rc<Self>) -> Option<InFlightGuard> {
        if self.stranger.as_ref().is_some_and(|stranger| !stranger.begin_answer()) {
            return None;
        }
        self.answers.update(|answers| answers + 1);
        self.requests.update(|requests| requests.wrapping_add(1));
        self.heard.store(false, Ordering::Relaxed);
        Some(InFlightGuard(Rc::clone(self)))
    }

    /// Returns the flag to set when bytes arrive.
    pub(crate) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// Returns the flag that lifts the limit on the client's bytes.
    pub(crate) fn is_input_unlimited(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_input_unlimited)
    }

    /// Reads the client's bytes without a limit from now on.
    pub(crate) fn lift_input_limit(&self) {
        self.is_input_unlimited.store(true, Ordering::Relaxed);
    }

    /// Marks the current response as the last one.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Counts a request after the last response.
    pub(crate) fn count_late(&self) {
        self.late.update(|late| late.saturating_add(1));
    }

    /// Makes the task that polls the current response watch its rate.
    pub(crate) fn watch(&self, pace: Rc<MinRate>) {
        self.begun.set(Some(pace));
    }

    pub(crate) fn to_watch(&self) -> Option<Rc<MinRate>> {
        self.begun.take()
    }
}

/// A response in flight.
pub(crate) struct InFlightGuard(Rc<ConnectionActivity>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.answers.update(|answers| answers - 1);
        if let Some(stranger) = &self.0.stranger {
            stranger.end_answer();
        }
    }
}

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TimeoutKind {
    /// The time between two requests is over, or no further request is allowed: close the connection gracefully.
    Close,
    /// No request arrived in time, or the client did not close in time.
    Request,
    /// The client reads its response too slowly.
    Stalled,
}

/// Timeouts of one connection.
pub(crate) struct ConnectionTimeouts {
    head_time: Duration,
    idle_time: Duration,
    /// Whether the client has unlimited time to read the end of a response.
    is_patient: bool,
    /// Whether requests are sequential, so that bytes which arrive between responses belong to the next request.
    is_sequential: bool,
    alarm: ResettableSleep,
    /// Value of `ConnectionActivity::requests` when `since` was set.
    requests: usize,
    /// The time since which no response is in flight.
    since: Option<Instant>,
    /// The time at which the header of the next request began.
    head: Option<Instant>,
    /// Whether the connection has been told to close.
    closing: bool,
    /// The time at which a closing connection on the admin port ends, whatever the client does.
    end: Option<Instant>,
    watched: Option<Rc<MinRate>>,
}

impl ConnectionTimeouts {
    pub(crate) fn new(limits: &Limits, policy: Policy, is_sequential: bool) -> Self {
        Self {
            head_time: limits.header_timeout,
            idle_time: limits.idle_timeout,
            is_patient: policy == Policy::Authenticated,
            is_sequential,
            alarm: ResettableSleep::default(),
            requests: 0,
            since: Some(Instant::now()),
            head: None,
            closing: false,
            end: None,
            watched: None,
        }
    }

    /// Must be polled after the connection, in the same task. An expired timeout stays expired, except
    /// [`TimeoutKind::Close`], after which a stranger has the same time again.
    pub(crate) fn poll(&mut self, activity: &ConnectionActivity, cx: &mut Context<'_>) -> Poll<TimeoutKind> {
        if activity.leaving.get() {
            if !self.closing {
                self.end = self.is_patient.then(|| Instant::now() + REJECTED_TIMEOUT);
                return self.close();
            }
            if activity.late.get() > MAX_LATE {
                return Poll::Ready(TimeoutKind::Request);
            }
            // HTTP/2 waits for the client to acknowledge the shutdown, and for windows to open.
            if self.end.is_some() {
                return self.alarm.poll(self.end, cx).map(|()| TimeoutKind::Request);
            }
        }
        let (due, overdue) = match activity.answers.get() {
            0 => self.idle_deadline(activity),
            _ => {
                self.since = None;
                (self.stall_deadline(activity), TimeoutKind::Stalled)
            }
        };
        match self.alarm.poll(due, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if overdue == TimeoutKind::Close => self.close(),
            Poll::Ready(()) => Poll::Ready(overdue),
        }
    }

    fn close(&mut self) -> Poll<TimeoutKind> {
        self.closing = true;
        self.since = Some(Instant::now());
        Poll::Ready(TimeoutKind::Close)
    }

    /// Returns the deadline for the next bytes while no response is in flight.
    fn idle_deadline(&mut self, activity: &ConnectionActivity) -> (Option<Instant>, TimeoutKind) {
        self.watched = None;
        let requests = activity.requests.get();
        let since = match self.since {
            Some(since) if self.requests == requests => since,
            _ => {
                // The bytes so far belonged to the request.
                activity.heard.store(false, Ordering::Relaxed);
                self.head = None;
                self.requests = requests;
                *self.since.insert(Instant::now())
            }
        };
        if requests == 0 {
            return (Some(since + self.head_time), TimeoutKind::Request);
        }
        if self.closing {
            // The end of the last response may still be in a buffer.
            let due = (!self.is_patient).then_some(since + self.idle_time);
            return (due, TimeoutKind::Request);
        }
        if self.is_sequential && activity.heard.load(Ordering::Relaxed) {
            let begun = *self.head.get_or_insert_with(Instant::now);
            return (Some(begun + self.head_time), TimeoutKind::Request);
        }
        (Some(since + self.idle_time), TimeoutKind::Close)
    }

    /// Returns the time at which the client counts as stalled, unless it reads more of the response before.
    fn stall_deadline(&mut self, activity: &ConnectionActivity) -> Option<Instant> {
        if let Some(pace) = activity.to_watch() {
            self.watched = Some(pace);
        }
        self.watched.as_ref()?.due()
    }
}
