//! What systemd is told (`sd_notify(3)`), and its watchdog. Without systemd nothing of it does anything.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

/// All is loaded, and the workers accept.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload has begun; [`ready`] ends it, whether it was refused or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot tell systemd of a reload: no monotonic clock"),
    }
}

/// A drain has begun, which ends by itself within `limit`.
pub fn stopping(limit: Duration) {
    /// For what is left to do after it.
    const SPARE: Duration = Duration::from_secs(5);
    let status = format!("draining for up to {} s", limit.as_secs());
    // So that TimeoutStopSec= need not be set along with limits.drain_timeout. 71 minutes are the most that fits in.
    let time = u32::try_from((limit + SPARE).as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(time),
        NotifyState::Status(&status),
    ]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "systemd cannot be told");
    }
}

/// A further line would be a further message.
fn one_line(status: &str) -> String {
    status.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells systemd that all is well, as often as it wants to hear it (`WatchdogSec=`), and only while every worker answers:
/// a mere timer would go on saying so while nobody is served.
#[derive(Debug, Default)]
pub struct Watchdog {
    workers: Vec<mpsc::Sender<oneshot::Sender<()>>>,
}

/// A worker's end of it.
#[derive(Debug)]
pub struct Heartbeat(mpsc::Receiver<oneshot::Sender<()>>);

impl Heartbeat {
    /// Answers from within the worker's own loop.
    pub async fn beat(mut self) {
        while let Some(asked) = self.0.recv().await {
            // Who has asked may have lost patience.
            let _ = asked.send(());
        }
    }
}

impl Watchdog {
    /// For one more worker.
    pub fn pulse(&mut self) -> Heartbeat {
        let (ask, asked) = mpsc::channel(1);
        self.workers.push(ask);
        Heartbeat(asked)
    }

    /// Runs for as long as the gateway does.
    pub async fn run(&self, drain: CancellationToken) {
        let Some(limit) = sd_notify::watchdog_enabled() else {
            return;
        };
        // Twice as often as needed, as sd_watchdog_enabled(3) has it.
        let pause = limit / 2;
        let mut interval = interval(pause);
        loop {
            interval.tick().await;
            match timeout(pause, self.ask_everyone(&drain)).await {
                Ok(true) => notify(&[NotifyState::Watchdog]),
                Ok(false) => tracing::error!("a worker has ended; systemd's watchdog is not told that all is well"),
                Err(_) => tracing::error!("a worker does not answer; systemd's watchdog is not told that all is well"),
            }
        }
    }

    /// Whether every worker answers; in a drain, those who are left.
    pub async fn ask_everyone(&self, drain: &CancellationToken) -> bool {
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            let lives = worker.send(answer).await.is_ok() && answered.await.is_ok();
            // In a drain, those who are done end.
            if !lives && !drain.is_cancelled() {
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
    async fn a_worker_that_has_ended_is_missed_unless_it_drains() {
        let (mut watchdog, drain) = (Watchdog::default(), CancellationToken::new());
        let (lives, ended) = (watchdog.pulse(), watchdog.pulse());
        tokio::spawn(lives.beat());
        drop(ended);
        assert!(!watchdog.ask_everyone(&drain).await);
        drain.cancel();
        assert!(watchdog.ask_everyone(&drain).await);
    }
}
