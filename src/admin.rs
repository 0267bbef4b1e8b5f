//! The admin port: certificate → [`crate::identity::Admin`] → forward. Everybody else is refused here, before anything
//! else is looked at.

use std::rc::Rc;
use std::time::SystemTime;

use http::Request;
use hyper::body::Incoming;

use crate::forward::forward;
use crate::identity::{Admin, NotAnAdmin, Peer};
use crate::leftover;
use crate::reply::{Refusal, Reply};
use crate::worker::Worker;

/// Answers one request on the admin port, as this moment's configuration has it.
pub async fn answer(worker: &Rc<Worker>, peer: &Peer, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let admin = match admit(worker, peer, &request) {
        Ok(admin) => admin,
        Err(refusal) => {
            leftover::dismiss(worker, request);
            return Err(refusal);
        }
    };
    tracing::debug!(
        admin = admin.name(),
        client = %peer.address,
        method = %request.method(),
        path = request.uri().path(),
        "forwarded"
    );
    forward(worker, admin, peer.address, request).await
}

fn admit(worker: &Worker, peer: &Peer, request: &Request<Incoming>) -> Result<Admin, Refusal> {
    let judged = worker.live().admins.judge(peer.certificate.as_ref(), SystemTime::now());
    let admin = judged.inspect_err(|why| log_refusal(peer, why))?;
    Refusal::unless_plain(request)?;
    Ok(admin)
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
