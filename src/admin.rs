//! The admin port: certificate → [`crate::identity::Admin`] → forward. Everybody else is refused here, before anything
//! else is looked at.

use std::rc::Rc;
use std::time::SystemTime;

use http::Request;
use hyper::body::Incoming;

use crate::forward::forward;
use crate::identity::{NotAnAdmin, Peer};
use crate::reply::{Refusal, Reply};
use crate::worker::Worker;

/// Answers one request on the admin port, as this moment's configuration has it.
pub async fn answer(worker: &Rc<Worker>, peer: &Peer, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let judged = worker.live().admins.judge(peer.certificate.as_ref(), SystemTime::now());
    let admin = judged.inspect_err(|why| log_refusal(peer, why))?;
    Refusal::unless_plain(&request)?;
    tracing::debug!(
        admin = admin.name(),
        client = %peer.address,
        method = %request.method(),
        path = request.uri().path(),
        "forwarded"
    );
    forward(worker, admin, peer.address, request).await
}

fn log_refusal(peer: &Peer, why: &NotAnAdmin) {
    let client = peer.address;
    match &peer.certificate {
        Some(shown) => {
            tracing::info!(%client, subject = shown.subject(), fingerprint = %shown.fingerprint(), "refused: {why}");
        }
        // `incus remote add` begins so.
        None => tracing::debug!(%client, "refused: {why}"),
    }
}
