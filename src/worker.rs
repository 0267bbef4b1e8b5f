//! One worker a processor core: a thread with a runtime, a pool of connections to Incus, and clients' connections of its own.
//!
//! Nothing of a connection ever moves to another thread, so that nothing has to be locked or woken across threads.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::identity::PeerCertificate;
use crate::live::Live;
use crate::telemetry::audit::Refusals;
use crate::upstream::Upstream;

/// How often connections to Incus are looked over that have been idle too long.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// How many tasks have their turn before the sockets are looked at again. A turn of a transfer moves a hundred kilobytes:
/// tokio's usual 61 of them would let a small request wait for milliseconds.
const TURNS: u32 = 4;

/// What one thread runs its tasks on.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS)
        .build_local(LocalOptions::default())
}

/// What every connection of one worker shares.
#[derive(Debug)]
pub struct Worker {
    live: watch::Receiver<Arc<Live>>,
    upstream: RefCell<Rc<Upstream>>,
    tasks: TaskTracker,
    drain: CancellationToken,
    is_cut: Cell<bool>,
    refusals: Refusals,
}

impl Worker {
    /// Must be called, like everything here, on the worker's own [`runtime`].
    pub fn start(live: watch::Receiver<Arc<Live>>, drain: CancellationToken) -> Rc<Self> {
        let upstream = Rc::new(Upstream::new(Arc::clone(&live.borrow().target)));
        let worker = Rc::new(Self {
            live,
            upstream: RefCell::new(upstream),
            tasks: TaskTracker::new(),
            drain,
            is_cut: Cell::new(false),
            refusals: Refusals::default(),
        });
        tokio::task::spawn_local(Rc::clone(&worker).keep_house());
        worker
    }

    /// The configuration in force at this moment.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// The client of the Incus that is in force at this moment.
    pub fn upstream(&self) -> Rc<Upstream> {
        let live = self.live.borrow();
        let mut upstream = self.upstream.borrow_mut();
        if !upstream.is_for(&live.target) {
            *upstream = Rc::new(Upstream::new(Arc::clone(&live.target)));
        }
        Rc::clone(&upstream)
    }

    /// Completes when a certificate that is listed is so no longer.
    pub fn revoked(&self, certificate: PeerCertificate) -> impl Future<Output = ()> + use<> {
        let mut live = self.live.clone();
        async move {
            let listed = live.wait_for(|live| live.admins.list(&certificate)).await.is_ok();
            if !listed || live.wait_for(|live| !live.admins.list(&certificate)).await.is_err() {
                // Nobody reloads any more: the gateway is ending.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs a task that a drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Completes when no new work is to be taken on.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        self.drain.clone().cancelled_owned()
    }

    /// Waits for every task, but no longer than until `cut`. Those that are left then go with the runtime.
    pub async fn finish(&self, cut: CancellationToken) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = cut.cancelled() => self.is_cut.set(true),
        }
    }

    /// Whether what is still under way is about to be dropped, since the time for a drain is over.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Who was refused here.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    async fn keep_house(self: Rc<Self>) {
        let mut interval = tokio::time::interval(HOUSEKEEPING);
        loop {
            interval.tick().await;
            let upstream = Rc::clone(&self.upstream.borrow());
            upstream.close_idle();
            self.refusals.tell();
        }
    }
}
