//! Attempts to open the stream of events.

use std::rc::Rc;
use std::time::Duration;

use edge::upstream::Upstream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::events::{Broken, EventStream};

/// Timeout of an attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum and maximum time between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Opens a stream, after a pause that grows with each failure.
#[derive(Debug)]
pub(super) struct Connector {
    upstream: Rc<Upstream>,
    attempt: JoinSet<Result<EventStream, Broken>>,
    next: Instant,
    pause: Duration,
}

impl Connector {
    /// Creates a connector whose first attempt begins at once.
    pub(super) fn new(upstream: Rc<Upstream>) -> Self {
        Self {
            upstream,
            attempt: JoinSet::new(),
            next: Instant::now(),
            pause: PAUSE.0,
        }
    }

    /// Returns the result of the next attempt. Dropping the future does not end the attempt.
    pub(super) async fn connect(&mut self) -> Result<EventStream, Broken> {
        if self.attempt.is_empty() {
            sleep_until(self.next).await;
            let upstream = Rc::clone(&self.upstream);
            let attempt = async move { timeout(TIMEOUT, EventStream::open(&upstream)).await };
            self.attempt
                .spawn_local(async move { attempt.await.unwrap_or(Err(Broken::Silent)) });
        }
        let opened = self.attempt.join_next().await;
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
        // An attempt does not panic.
        opened.and_then(Result::ok).unwrap_or(Err(Broken::Silent))
    }

    /// Makes the next attempt the first one after a success: something has changed.
    pub(super) fn reset(&mut self) {
        self.pause = PAUSE.0;
        self.next = self.next.min(Instant::now() + PAUSE.0);
    }
}
