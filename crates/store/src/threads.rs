//! Threads for work that blocks on the disk. They belong to the store, so that all workers share them and their number is
//! bounded; `tokio`'s blocking pool is one per worker.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A group of threads. They end when it is dropped and its jobs are done.
#[derive(Debug)]
pub(crate) struct Threads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    is_wanted: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Threads {
    pub(crate) fn start(name: &str, count: usize) -> io::Result<Self> {
        let threads = Self(Arc::default());
        for _ in 0..count {
            let shared = Arc::clone(&threads.0);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || shared.work())?;
        }
        Ok(threads)
    }

    /// Appends a job. The receiver gets its result; jobs run even if nobody receives it.
    pub(crate) fn start_job<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.push(Box::new(move || drop(sender.send(job()))));
        receiver
    }

    /// Appends a job, which does not run if the receiver has been dropped by then.
    pub(crate) fn start_wanted<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.push(Box::new(move || {
            if !sender.is_closed() {
                drop(sender.send(job()));
            }
        }));
        receiver
    }

    /// Runs a job and waits for its result.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.start_job(job).await.map_err(|_| broken())
    }

    fn push(&self, job: Job) {
        self.0.lock().jobs.push_back(job);
        self.0.is_wanted.notify_one();
    }
}

/// The job panicked.
pub(crate) fn broken() -> io::Error {
    io::Error::other("a job of the store has failed")
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.is_wanted.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Jobs run without the lock, so a panic leaves the queue intact.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next_job() {
            // A panic must not cost the thread. The receiver sees that the sender is gone.
            drop(catch_unwind(AssertUnwindSafe(job)));
        }
    }

    fn next_job(&self) -> Option<Job> {
        let queue = self.lock();
        let is_idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.is_closed;
        let mut queue = self
            .is_wanted
            .wait_while(queue, is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        queue.jobs.pop_front()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("jobs", &self.lock().jobs.len())
            .finish_non_exhaustive()
    }
}
