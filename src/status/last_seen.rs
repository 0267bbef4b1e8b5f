//! Time and source address of an administrator's last request.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Last request of one administrator. All workers share it, and reloads keep it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Unix time in seconds; 0 if there was no request.
    at: AtomicU64,
    from: Mutex<Option<IpAddr>>,
}

impl Seen {
    /// Records a request. Only the first request of each second takes the lock.
    pub fn note(&self, now: SystemTime, from: IpAddr) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.at.load(Ordering::Relaxed) != now {
            self.at.store(now, Ordering::Relaxed);
            *self.from.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        }
    }

    /// Returns the Unix time of the last request in seconds, and its source address.
    pub fn last(&self) -> Option<(u64, IpAddr)> {
        let from = *self.from.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.at.load(Ordering::Relaxed), from?))
    }
}
