//! How long a connection is waited for in a drain.

use std::time::Duration;

use tokio::time::sleep;

use crate::shutdown::Shutdown;

/// Grace period of a drain for connections that were accepted before it and have not sent a request. A restart behind a
/// systemd socket therefore rejects no client.
const LATECOMERS: Duration = Duration::from_secs(2);

/// Completes during a drain: immediately once a request has begun, otherwise after [`LATECOMERS`]. Returns whether a request
/// has begun.
pub(super) async fn drain_deadline(shutdown: &Shutdown, begun: impl Future<Output = ()>) -> bool {
    shutdown.draining().await;
    tokio::select! {
        () = begun => true,
        // Boxed, because only a drain needs it and every connection would reserve memory for it.
        () = Box::pin(sleep(LATECOMERS)) => false,
    }
}
