//! Accepts the connections of a listener on one worker.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::admission::RejectReason;
use crate::connection::Accepted;
use crate::listener::ListeningSocket;
use crate::listener_id::Policy;
use crate::service::Listener;
use crate::worker::Worker;

/// Pause after an error on the gateway's side (no file descriptors left), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(500);
/// The same on an authenticated listener, which gets free descriptors first.
const SHORT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the worker drains.
pub async fn accept(socket: ListeningSocket, listener: Rc<Listener>, worker: Rc<Worker>) -> io::Result<()> {
    let socket = socket.into_tokio()?;
    let id = listener.id();
    let mut draining = pin!(worker.shutdown().draining());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => return Ok(()),
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                let accepted = Accepted::new(tcp, address);
                if accepted.is_of_proxy(&worker, id) {
                    if let Some(proxied) = accepted.admit_proxy(&worker, id) {
                        let serving = proxied.serve(Rc::clone(&worker), Rc::clone(&listener));
                        worker.shutdown().spawn(serving);
                    }
                    continue;
                }
                // Checked before a task is spawned: under overload, many connections arrive before any task runs.
                if let Some(admitted) = accepted.admit(&worker, id) {
                    let evicts = id.policy() == Policy::Authenticated || admitted.has_evicted();
                    let serving = admitted.serve(Rc::clone(&worker), Rc::clone(&listener));
                    worker.shutdown().spawn(serving);
                    // The evicted connections must close before the next one is accepted.
                    if evicts {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Err(error) if is_the_clients(&error) => {
                tracing::debug!(%error, "a client disconnected before its connection was accepted");
            }
            Err(error) => {
                if worker.limiter().count(RejectReason::Descriptors) {
                    tracing::error!(
                        "cannot accept connections: {error}; raise LimitNOFILE= (systemd) or `ulimit -n`, or lower \
                         limits.max_connections; further failures are not logged until a minute passes without any"
                    );
                }
                tokio::time::sleep(match id.policy() {
                    Policy::Authenticated => SHORT_PAUSE,
                    Policy::Open => PAUSE,
                })
                .await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
