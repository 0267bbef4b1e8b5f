//! When an admin was here last, and from where.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Of one admin, shared by all workers and kept over reloads.
#[derive(Debug, Default)]
pub struct Seen {
    /// In seconds since 1970; 0 for never.
    at: AtomicU64,
    from: Mutex<Option<IpAddr>>,
}

impl Seen {
    /// Notes a request. All but the first one of a second cost no more than a look.
    pub fn note(&self, now: SystemTime, from: IpAddr) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.at.load(Ordering::Relaxed) != now {
            self.at.store(now, Ordering::Relaxed);
            *self.from.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        }
    }

    /// The second of the last request, since 1970, and where that came from.
    pub fn last(&self) -> Option<(u64, IpAddr)> {
        let from = *self.from.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.at.load(Ordering::Relaxed), from?))
    }
}
