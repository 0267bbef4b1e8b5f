//! Mounts the services on the listeners, for each worker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use edge::admission::Limiter;
use edge::counters::Counter;
use edge::counters::label::LabelMap;
use edge::service::{Listener, Service, Services};
use edge::shutdown::Shutdown;
use edge::telemetry::stranger_log::StrangerLog;
use edge::worker::Worker;
use tokio::sync::watch;

use crate::admin::AdminService;
use crate::authority::Authority;
use crate::config::{ConfiguredListener, Table};
use crate::forward::Forwarder;
use crate::identity::AuthError;
use crate::metrics::Metrics;
use crate::public::{EvaluationBudget, PublicService};
use crate::simplestreams::{self, SimplestreamsService};
use crate::state::{CurrentUpstream, State};

/// Interval for closing connections to Incus that have been idle too long, and for writing the log of strangers.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(2);

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// The limiter of connections and requests.
    pub limiter: Arc<Limiter>,
    /// The registry of each worker's metrics.
    pub metrics: Arc<Metrics>,
    /// Requests on the admin port without a listed client certificate, by reason.
    pub rejected: Arc<LabelMap<AuthError, Counter>>,
    /// Log of the requests of strangers.
    pub strangers: Arc<StrangerLog>,
    /// The end of all workers.
    pub shutdown: Shutdown,
}

impl Shared {
    /// Starts a worker on its own runtime. Returns it with the listeners that it serves, each at its index.
    pub fn start_worker(self) -> (Rc<Worker>, Vec<Rc<Listener>>) {
        let Self {
            state,
            limiter,
            metrics,
            rejected,
            strangers,
            shutdown,
        } = self;
        let shutdown = shutdown.for_worker();
        let upstream = Rc::new(CurrentUpstream::new(state.clone()));
        let listener = |listener: &ConfiguredListener<Table>| match listener.first {
            Table::Admin => {
                let authority = Rc::new(Authority::new(state.clone(), listener.id));
                let admin = AdminService {
                    state: state.clone(),
                    forwarder: Forwarder {
                        upstream: Rc::clone(&upstream),
                        authority: Rc::clone(&authority),
                        shutdown: shutdown.clone(),
                    },
                    limiter: Arc::clone(&limiter),
                    strangers: Arc::clone(&strangers),
                    rejected: Arc::clone(&rejected),
                };
                Listener::authenticated(listener.id, Services::of_every_path(Rc::new(admin)), authority)
            }
            Table::Public => {
                let public = PublicService {
                    state: state.clone(),
                    upstream: Rc::clone(&upstream),
                    budget: Rc::new(EvaluationBudget::new(state.clone(), Arc::clone(&limiter))),
                    shutdown: shutdown.clone(),
                };
                let simplestreams: Rc<dyn Service> = Rc::new(SimplestreamsService {
                    state: state.clone(),
                    upstream: Rc::clone(&upstream),
                    shutdown: shutdown.clone(),
                });
                let services = simplestreams::PREFIXES.into_iter().fold(
                    Services::of_every_path(Rc::new(public)),
                    |services, prefix| {
                        let mounted = services.mount(prefix, Rc::clone(&simplestreams));
                        mounted.expect("the prefixes are disjoint")
                    },
                );
                Listener::open(listener.id, services)
            }
        };
        let listeners = state.borrow().listeners.iter().map(listener).collect();
        tokio::task::spawn_local(maintain(upstream, Arc::clone(&strangers)));
        let config = move || Arc::clone(&state.borrow().edge);
        let worker = Worker::start(config, limiter, metrics.of_worker(), strangers, shutdown);
        (worker, listeners)
    }
}

async fn maintain(upstream: Rc<CurrentUpstream>, strangers: Arc<StrangerLog>) {
    let mut interval = tokio::time::interval(MAINTENANCE_INTERVAL);
    loop {
        interval.tick().await;
        upstream.close_idle();
        strangers.flush();
    }
}
