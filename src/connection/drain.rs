//! How long a connection is waited for in a drain.

use std::time::Duration;

use tokio::time::sleep;

use crate::worker::Worker;

/// A drain still serves who was accepted before it, if they ask for something within this time: a restart behind systemd's
/// socket refuses nobody.
const LATECOMERS: Duration = Duration::from_secs(2);

/// Completes in a drain, at once for who has begun, and a little later for who has not; tells which of them it is.
pub(super) async fn drain_deadline(worker: &Worker, begun: impl Future<Output = ()>) -> bool {
    worker.draining().await;
    tokio::select! {
        () = begun => true,
        // Boxed, for only a drain needs it, and every connection would have room for it.
        () = Box::pin(sleep(LATECOMERS)) => false,
    }
}
