//! Notifications to systemd (`sd_notify(3)`) and its watchdog. Without systemd, all of this is a no-op.

use std::time::Duration;

use edge::shutdown::Shutdown;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};

/// Notifies systemd that everything is loaded and the workers accept connections.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Notifies systemd that a reload has begun. [`ready`] ends it, whether it was rejected or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify systemd of a reload: no monotonic clock"),
    }
}

/// Notifies systemd that a drain has begun, which ends within `limit`.
pub fn stopping(limit: Duration) {
    /// Time for the rest of the shutdown after the drain.
    const SPARE: Duration = Duration::from_secs(5);
    let status = format!("draining for up to {} s", limit.as_secs());
    // So that TimeoutStopSec= need not be set along with limits.drain_timeout. A u32 of microseconds holds at most 71 minutes.
    let time = u32::try_from((limit + SPARE).as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(time),
        NotifyState::Status(&status),
    ]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "cannot notify systemd");
    }
}

/// Joins the lines of `status`: in the `sd_notify` protocol, a line break starts another assignment.
fn one_line(status: &str) -> String {
    status.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sends systemd's watchdog its keep-alive (`WatchdogSec=`) only while every worker responds. A plain timer would keep sending
/// it while no client is served.
#[derive(Debug, Default)]
pub struct Watchdog {
    workers: Vec<mpsc::Sender<oneshot::Sender<()>>>,
}

/// The worker's side of the [`Watchdog`].
#[derive(Debug)]
pub struct Heartbeat(mpsc::Receiver<oneshot::Sender<()>>);

impl Heartbeat {
    /// Responds from within the worker's event loop.
    pub async fn beat(mut self) {
        while let Some(reply) = self.0.recv().await {
            // The watchdog's wait may have timed out.
            let _ = reply.send(());
        }
    }
}

impl Watchdog {
    /// Registers one more worker.
    pub fn pulse(&mut self) -> Heartbeat {
        let (sender, receiver) = mpsc::channel(1);
        self.workers.push(sender);
        Heartbeat(receiver)
    }

    /// Sends keep-alives until the process ends. Returns immediately if systemd's watchdog is not enabled.
    pub async fn run(&self, shutdown: Shutdown) {
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return;
        };
        // Half the timeout, as sd_watchdog_enabled(3) recommends.
        let pause = limit / 2;
        let mut interval = interval(pause);
        loop {
            interval.tick().await;
            match timeout(pause, self.ask_everyone(&shutdown)).await {
                Ok(true) => notify(&[NotifyState::Watchdog]),
                Ok(false) => tracing::error!("a worker has ended; no keep-alive is sent to systemd's watchdog"),
                Err(_) => tracing::error!("a worker does not respond; no keep-alive is sent to systemd's watchdog"),
            }
        }
    }

    /// Returns whether every worker responds. During a drain, workers that have finished are ignored.
    pub async fn ask_everyone(&self, shutdown: &Shutdown) -> bool {
        // All of them are asked before the first responds, so that this takes no longer than the slowest of them.
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            // An answer that cannot be sent is dropped, which the receiver sees.
            let _ = worker.send(answer).await;
            answers.push(answered);
        }
        for answered in answers {
            let lives = answered.await.is_ok();
            // During a drain, a worker that has finished ends.
            if !lives && !shutdown.is_draining() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exited_worker_fails_the_watchdog_unless_draining() {
        let (mut watchdog, shutdown) = (Watchdog::default(), Shutdown::default());
        let (lives, ended) = (watchdog.pulse(), watchdog.pulse());
        tokio::spawn(lives.beat());
        drop(ended);
        assert!(!watchdog.ask_everyone(&shutdown).await);
        shutdown.drain();
        assert!(watchdog.ask_everyone(&shutdown).await);
    }
}
