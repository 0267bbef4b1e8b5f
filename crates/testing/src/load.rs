//! A crowd of clients that ask without a pause, each time over a new connection, and never twice for the same.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::gateway::PATIENCE;
use super::tls::http1::Answer;
use super::tls::{End, TlsClient};

/// What the crowd is told, and tells.
#[derive(Debug, Default)]
pub struct Load {
    served: AtomicUsize,
    done: AtomicBool,
}

impl Load {
    /// One more client, until the load ends. It fails with the first answer that `judge` does not take.
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

    /// Returns when so many more have been served.
    pub fn wait_for_more(&self, count: usize) {
        let goal = self.served.load(Ordering::SeqCst) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.served.load(Ordering::SeqCst) < goal {
            assert!(Instant::now() < deadline, "nobody is served any more");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// However the test ends, so do the clients.
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

/// For who must always be served.
#[track_caller]
pub fn served(answer: Result<Answer, End>) {
    match answer {
        Ok(answer) => assert_eq!(answer.head.status, 200),
        Err(end) => panic!("refused: {end}"),
    }
}
