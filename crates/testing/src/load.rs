//! Clients that send requests without a pause, each over a new connection and for a different path.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::gateway::PATIENCE;
use super::tls::http1::Answer;
use super::tls::{End, TlsClient};

/// State that the clients share with the test.
#[derive(Debug, Default)]
pub struct Load {
    served: AtomicUsize,
    done: AtomicBool,
}

impl Load {
    /// Adds a client, which runs until the load ends. It fails on the first response that `judge` rejects.
    pub fn ask<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        client: TlsClient,
        port: SocketAddr,
        path: &'env str,
        judge: impl Fn(Result<Answer, End>) + Send + 'scope,
    ) {
        scope.spawn(move || {
            while !self.done.load(Ordering::SeqCst) {
                judge(client.connect(port).and_then(|mut raw| raw.get(path)));
                self.served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    /// Waits until `count` more requests have been served.
    pub fn wait_for_more(&self, count: usize) {
        let goal = self.served.load(Ordering::SeqCst) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.served.load(Ordering::SeqCst) < goal {
            assert!(Instant::now() < deadline, "nobody is served any more");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the clients when the returned value is dropped, also when the test fails.
    pub fn until_dropped(&self) -> impl Drop + '_ {
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        Done(&self.done)
    }
}

/// Accepts only successful responses, for clients that must always be served.
#[track_caller]
pub fn assert_served(answer: Result<Answer, End>) {
    match answer {
        Ok(answer) => assert_eq!(answer.head.status, 200),
        Err(end) => panic!("refused: {end}"),
    }
}
