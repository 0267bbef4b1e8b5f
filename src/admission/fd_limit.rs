//! File descriptors: what the system allows, and how many connections that is.

use std::thread;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::limits::Limits;

/// What a connection takes: a socket of its own, and one to Incus.
const EACH: usize = 2;
/// What the process takes whether or not anybody is connected, and what each worker takes: sockets that listen, an epoll, and
/// connections to Incus that are kept.
const ALWAYS: usize = 32;
const WORKER: usize = 8;

/// Raises what is allowed to the most that may be had.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let mut raised = limit;
    raised.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Limits which the system's hold: so that a crowd of strangers is stopped by ours before it has taken the last file
/// descriptor, which an admin would need.
pub fn fit(limits: Limits) -> Limits {
    let allowed = getrlimit(Resource::Nofile).current;
    let allowed = allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let fitted = fit_into(allowed, workers, limits);
    if fitted.max_connections < limits.max_connections {
        tracing::warn!(
            "limits.max_connections is {}, but the system allows {allowed} open files, which is enough for {}, {} of them for admins: \
             so many it is now. Raise LimitNOFILE= (systemd) or `ulimit -n`, or lower limits.max_connections",
            limits.max_connections,
            fitted.max_connections,
            fitted.reserved_admin_connections,
        );
    }
    fitted
}

fn fit_into(files: usize, workers: usize, limits: Limits) -> Limits {
    let free = files.saturating_sub(ALWAYS + WORKER * workers);
    let connections = limits.max_connections.min(free / EACH).max(2);
    Limits {
        max_connections: connections,
        reserved_admin_connections: limits.reserved_admin_connections.min(connections / 2),
        ..limits
    }
}
