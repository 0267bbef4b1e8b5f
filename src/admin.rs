//! The admin port: certificate → [`crate::identity::Admin`] → forward. Everybody else is refused here, before anything
//! else is looked at.

use std::rc::Rc;
use std::time::SystemTime;

use http::Request;
use hyper::body::Incoming;

use crate::client::Client;
use crate::forward::forward;
use crate::identity::{NotAnAdmin, Peer};
use crate::reply::{Refusal, Reply};
use crate::telemetry::exchange::Exchange;

/// Answers one request on the admin port, as this moment's configuration has it.
pub async fn answer(exchange: &Rc<Exchange>, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let Client { worker, peer, .. } = &**exchange.client();
    let judged = worker.live().admins.judge(peer.certificate.as_ref(), SystemTime::now());
    let admin = judged.inspect_err(|why| log_refusal(peer, why))?;
    exchange.is_of_admin(admin.name());
    Refusal::unless_plain(&request)?;
    tracing::debug!(
        admin = &**admin.name(),
        client = %peer.address,
        method = %request.method(),
        path = request.uri().path(),
        "forwarded"
    );
    forward(exchange, admin, request).await
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
