//! The file descriptor limit of the process, and the number of connections that it allows.

use std::thread;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::limits::Limits;

/// File descriptors that the process uses without any connection. [`WORKER`] is the number per worker: listening sockets, an
/// epoll instance, and pooled upstream connections.
const ALWAYS: usize = 32;
const WORKER: usize = 8;

/// Raises the soft limit to the hard limit.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let mut raised = limit;
    raised.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit on open files");
    }
}

/// Reduces the limits to what the system's file descriptor limit allows. Strangers then reach the gateway's limit before they
/// use up the last file descriptor, which an administrator would need.
///
/// A request may use `each` of them besides the socket of its connection.
pub fn fit(limits: Limits, each: usize) -> Limits {
    let allowed = getrlimit(Resource::Nofile).current;
    let allowed = allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let fitted = fit_into(allowed, workers, 1 + each, limits);
    if fitted.max_connections < limits.max_connections {
        tracing::warn!(
            "limits.max_connections is {}, but the system allows {allowed} open files; it is reduced to {}, {} of them \
             reserved for the admin port; raise LimitNOFILE= (systemd) or `ulimit -n`, or lower limits.max_connections",
            limits.max_connections,
            fitted.max_connections,
            fitted.reserved_admin_connections,
        );
    }
    fitted
}

fn fit_into(files: usize, workers: usize, each: usize, limits: Limits) -> Limits {
    let free = files.saturating_sub(ALWAYS + WORKER * workers);
    let connections = limits.max_connections.min(free / each).max(2);
    Limits {
        max_connections: connections,
        reserved_admin_connections: limits.reserved_admin_connections.min(connections / 2),
        ..limits
    }
}
