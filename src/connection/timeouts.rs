//! What a connection is at, and when it has been at nothing for too long.

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
use crate::port::Port;

/// How long a client that was refused on the admin port may take to read that, and to agree to the end of the connection.
const FAREWELL: Duration = Duration::from_secs(5);
/// So many streams may be on their way when their client learns that none is answered any more: as many as there may be at a
/// time. Who sends more has not listened.
const MAX_LATE: u8 = 100;

/// Told by all who serve the connection, each of them on its one worker.
#[derive(Default)]
pub(crate) struct ConnectionActivity {
    /// Answers that are made or on their way.
    answers: Cell<usize>,
    /// Requests that there were.
    requests: Cell<usize>,
    /// Whether anything has come since the last request. The stream says so, which hyper wants to be able to send to threads.
    heard: Arc<AtomicBool>,
    /// No further request is to be answered.
    leaving: Cell<bool>,
    /// Streams that have come all the same.
    late: Cell<u8>,
    /// Told of answers too: without one, others may displace the connection.
    stranger: Option<Arc<Stranger>>,
    /// The answer that has just been begun, for who watches how it is taken.
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

    /// A request has come. It is being answered until what is returned is dropped. `None` if the connection's place is
    /// another's.
    pub(crate) fn answer(self: &Rc<Self>) -> Option<InFlightGuard> {
        if self.stranger.as_ref().is_some_and(|stranger| !stranger.begin_answer()) {
            return None;
        }
        self.answers.update(|answers| answers + 1);
        self.requests.update(|requests| requests.wrapping_add(1));
        self.heard.store(false, Ordering::Relaxed);
        Some(InFlightGuard(Rc::clone(self)))
    }

    /// To be set when bytes have come.
    pub(crate) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// This was the last answer.
    pub(crate) fn leave(&self) {
        self.leaving.set(true);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// A request has come after the last answer.
    pub(crate) fn count_late(&self) {
        self.late.update(|late| late.saturating_add(1));
    }

    /// Has whoever polls this answer watch how it is taken.
    pub(crate) fn watch(&self, pace: Rc<MinRate>) {
        self.begun.set(Some(pace));
    }

    pub(crate) fn to_watch(&self) -> Option<Rc<MinRate>> {
        self.begun.take()
    }
}

/// An answer that is made or on its way.
pub(crate) struct InFlightGuard(Rc<ConnectionActivity>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.answers.update(|answers| answers - 1);
        if let Some(stranger) = &self.0.stranger {
            stranger.end_answer();
        }
    }
}

/// What has to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TimeoutKind {
    /// The time between two requests is over, or there must be none: the connection is to be closed in order.
    Close,
    /// No request has come in time, or the end has not.
    Request,
    /// The client takes its answer too slowly.
    Stalled,
}

/// One connection's clock.
pub(crate) struct ConnectionTimeouts {
    head_time: Duration,
    idle_time: Duration,
    /// Whether its client may take its time to take the end of an answer.
    is_patient: bool,
    /// Whether requests come one after the other, so that what comes while none is answered is the next one.
    is_sequential: bool,
    alarm: ResettableSleep,
    /// How many requests there were when `since` was set.
    requests: usize,
    /// Since when no request has been answered.
    since: Option<Instant>,
    /// When the head of the next one began.
    head: Option<Instant>,
    /// Whether it has been told to close.
    closing: bool,
    /// When a connection that was told so on the admin port ends, whatever its client does.
    end: Option<Instant>,
    watched: Option<Rc<MinRate>>,
}

impl ConnectionTimeouts {
    pub(crate) fn new(limits: &Limits, port: Port, is_sequential: bool) -> Self {
        Self {
            head_time: limits.header_timeout,
            idle_time: limits.idle_timeout,
            is_patient: port == Port::Admin,
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

    /// To be polled after the connection, in the same task. What is overdue stays so, but for [`TimeoutKind::Close`], after which
    /// a stranger has as much time again.
    pub(crate) fn poll(&mut self, activity: &ConnectionActivity, cx: &mut Context<'_>) -> Poll<TimeoutKind> {
        if activity.leaving.get() {
            if !self.closing {
                self.end = self.is_patient.then(|| Instant::now() + FAREWELL);
                return self.close();
            }
            if activity.late.get() > MAX_LATE {
                return Poll::Ready(TimeoutKind::Request);
            }
            // HTTP/2 waits for its client to acknowledge that the connection is closing, and for windows to open.
            if self.end.is_some() {
                return self.alarm.poll(self.end, cx).map(|()| TimeoutKind::Request);
            }
        }
        let (due, overdue) = match activity.answers.get() {
            0 => self.quiet(activity),
            _ => {
                self.since = None;
                (self.taken_until(activity), TimeoutKind::Stalled)
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

    /// By when something must have come, while nothing is answered.
    fn quiet(&mut self, activity: &ConnectionActivity) -> (Option<Instant>, TimeoutKind) {
        self.watched = None;
        let requests = activity.requests.get();
        let since = match self.since {
            Some(since) if self.requests == requests => since,
            _ => {
                // What has come until now was the request.
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
            // The end of its last answer may still be in a buffer.
            let due = (!self.is_patient).then_some(since + self.idle_time);
            return (due, TimeoutKind::Request);
        }
        if self.is_sequential && activity.heard.load(Ordering::Relaxed) {
            let begun = *self.head.get_or_insert_with(Instant::now);
            return (Some(begun + self.head_time), TimeoutKind::Request);
        }
        (Some(since + self.idle_time), TimeoutKind::Close)
    }

    fn taken_until(&mut self, activity: &ConnectionActivity) -> Option<Instant> {
        if let Some(pace) = activity.to_watch() {
            self.watched = Some(pace);
        }
        self.watched.as_ref()?.due()
    }
}
