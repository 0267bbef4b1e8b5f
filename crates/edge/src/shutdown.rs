//! The end of the process: a drain, in which the work in flight may complete, and a cut, which drops what is left of it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whether the process drains or cuts, and the tasks of one worker that a drain waits for.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Returns the same shutdown with no tasks yet, for a worker, which waits for its own only.
    pub fn for_worker(&self) -> Self {
        Self {
            tasks: TaskTracker::new(),
            ..self.clone()
        }
    }

    /// Begins the drain: no new work is accepted.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Returns whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Completes when no new work may be accepted.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.drain.clone().cancelled_owned()
    }

    /// Begins the cut: the work in flight is dropped.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Returns whether the work in flight is dropped.
    pub fn is_cutting(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Spawns a task on this thread that a drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Waits for all tasks, until they complete or are cut. The remaining ones are dropped with the runtime.
    pub async fn finish(&self) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.cut.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    async fn is_over(future: impl Future) -> bool {
        let mut future = pin!(future);
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[test]
    fn a_worker_waits_for_its_own_tasks_until_the_cut() {
        crate::worker::runtime().unwrap().block_on(async {
            let process = Shutdown::default();
            let (idle, busy) = (process.for_worker(), process.for_worker());
            busy.spawn(pending());
            process.drain();
            assert!(busy.is_draining() && is_over(busy.draining()).await);
            assert!(is_over(idle.finish()).await, "it has no task");
            assert!(!is_over(busy.finish()).await, "its task is under way");
            assert!(!busy.is_cutting());
            process.cut();
            assert!(busy.is_cutting() && is_over(busy.finish()).await);
        });
    }
}
