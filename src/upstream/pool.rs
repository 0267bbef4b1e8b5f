//! Connections that wait for their next request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::counts::{CountedIdle, Counts};
use super::target::Target;

/// Incus closes an idle connection after 29 s; ours are gone before, so that hardly a request meets a closed one.
const MAX_IDLE: Duration = Duration::from_secs(20);
/// A worker with more idle connections than this has had a peak that is over.
const MAX_CONNECTIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) counts: Arc<Counts>,
    /// The one used last comes last and is used first: the others may grow old.
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    _counted: CountedIdle,
}

impl Pool {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            idle: RefCell::default(),
        }
    }

    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_CONNECTIONS {
            idle.push(Idle {
                connection,
                since: Instant::now(),
                _counted: CountedIdle::new(&self.counts),
            });
        }
    }

    /// A connection that was open a moment ago, and that Incus takes for this client's. Where something has gone wrong
    /// meanwhile, one that is silent may be dead, and what is sent on it lost.
    pub(super) async fn take(&self, target: &Target, client: Option<SocketAddr>) -> Option<Connection> {
        let client = target.told(client);
        poll_fn(|cx| {
            while let Some(Idle {
                mut connection, since, ..
            }) = self.remove(client)
            {
                // Nobody drove it meanwhile: this is where we see that Incus has closed it.
                let is_trusted = since.elapsed() < MAX_IDLE && target.is_untroubled_since(since);
                if is_trusted && connection.is_reusable(cx) {
                    return Poll::Ready(Some(connection));
                }
            }
            Poll::Ready(None)
        })
        .await
    }

    pub(super) fn close_idle(&self) {
        self.idle.borrow_mut().retain(|idle| idle.since.elapsed() < MAX_IDLE);
    }

    fn remove(&self, client: Option<IpAddr>) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let index = idle.iter().rposition(|idle| idle.connection.is_for(client))?;
        Some(idle.remove(index))
    }
}
