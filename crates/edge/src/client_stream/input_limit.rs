//! Limits how fast a stranger's bytes are read.
//!
//! Bytes that are no request cost time as well: HTTP/2 frames that need no response (SETTINGS, PING, PRIORITY,
//! WINDOW_UPDATE), discarded bodies, headers of 64 KiB, TLS records of a single byte. Sending them takes only bandwidth, so their number
//! is limited by address like that of requests. What exceeds the limit waits in the kernel until TCP stops its sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::admission::{ClientBucket, ResettableSleep};

/// One byte may be read for free for this many bytes sent: a client acknowledges what it downloads, over HTTP/2 with
/// WINDOW_UPDATE frames.
const SENT_PER_FREE_BYTE: usize = 64;

/// The limit of one connection.
#[derive(Debug)]
pub struct InputLimit {
    /// Counts the bytes of all connections of the address.
    counted_by: Arc<ClientBucket>,
    requests_per_second: u32,
    /// Set when the client has become an administrator.
    is_lifted: Arc<AtomicBool>,
    /// Bytes sent that have not paid for received ones yet.
    sent: usize,
    timer: ResettableSleep,
}

impl InputLimit {
    /// Creates the limit of a connection whose client is no administrator.
    pub(crate) fn new(counted_by: Arc<ClientBucket>, requests_per_second: u32, is_lifted: Arc<AtomicBool>) -> Self {
        Self {
            counted_by,
            requests_per_second,
            is_lifted,
            sent: 0,
            timer: ResettableSleep::default(),
        }
    }

    /// Completes when more may be read.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_lifted.load(Ordering::Relaxed)
            && let Err(wait) = self.counted_by.has_input()
        {
            ready!(self.timer.poll(Some(Instant::now() + wait), cx));
        }
        Poll::Ready(())
    }

    /// Counts bytes that were read.
    pub(super) fn charge(&mut self, received: usize) {
        let free = received.min(self.sent / SENT_PER_FREE_BYTE);
        self.sent -= free * SENT_PER_FREE_BYTE;
        if received > free {
            self.counted_by.charge_input(received - free, self.requests_per_second);
        }
    }

    /// Counts bytes that were sent.
    pub(super) fn earn(&mut self, sent: usize) {
        self.sent = self.sent.saturating_add(sent);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::task::Waker;

    use super::*;
    use crate::admission::Limiter;

    #[test]
    fn what_is_sent_pays_for_what_is_received_and_an_admin_waits_for_nothing() {
        let mut context = Context::from_waker(Waker::noop());
        let runtime = crate::worker::runtime().expect("the runtime starts");
        runtime.block_on(async {
            let limiter = Limiter::default();
            let bucket = |last| {
                limiter
                    .bucket(IpAddr::from([192, 0, 2, last]))
                    .expect("no loopback address")
            };
            let is_lifted = Arc::<AtomicBool>::default();
            let limit = |last| InputLimit::new(bucket(last), 1, Arc::clone(&is_lifted));
            let mut downloader = limit(1);
            for _ in 0..100 {
                downloader.earn(1_000 * SENT_PER_FREE_BYTE);
                downloader.charge(1_000);
                assert!(downloader.poll(&mut context).is_ready());
            }
            let mut talker = limit(2);
            assert!(talker.poll(&mut context).is_ready());
            talker.charge(100_000);
            assert!(talker.poll(&mut context).is_pending());
            is_lifted.store(true, Ordering::Relaxed);
            assert!(talker.poll(&mut context).is_ready());
        });
    }
}
