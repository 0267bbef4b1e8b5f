//! The admin port: certificate → [`crate::identity::Admin`] → forward. Everybody else is refused here, before anything
//! else is looked at.

use std::rc::Rc;
use std::time::SystemTime;

use http::Request;
use hyper::body::Incoming;

use crate::client::Client;
use crate::forward::forward;
use crate::identity::{Admin, NotAnAdmin, Peer};
use crate::leftover;
use crate::metrics::question::Question;
use crate::plain;
use crate::reply::{Refusal, Reply};
use crate::telemetry::exchange::Exchange;
use crate::worker::Worker;

/// Answers one request on the admin port, as this moment's configuration has it.
pub async fn answer(exchange: &Rc<Exchange>, request: Request<Incoming>) -> Result<Reply, Refusal> {
    match admit(exchange, &request) {
        Ok(admin) => forward(exchange, admin, request).await,
        Err(refusal) => {
            let Client { worker, peer, .. } = &**exchange.client();
            leftover::dismiss(worker, request);
            match refusal {
                Refusal::NotAnAdmin(_) => Err(worker.allow_refusal(peer.address.ip()).err().unwrap_or(refusal)),
                refusal => Err(refusal),
            }
        }
    }
}

fn admit(exchange: &Exchange, request: &Request<Incoming>) -> Result<Admin, Refusal> {
    let Client { worker, peer, .. } = &**exchange.client();
    let now = SystemTime::now();
    let judged = worker.live().admins.judge(peer.certificate.as_ref(), now);
    let admin = judged.inspect_err(|why| tell(worker, peer, why))?;
    admin.is_seen(now, peer.address.ip());
    exchange.is_of_admin(admin.name());
    exchange.asks(Question::of_admin(request.uri().path()));
    plain::or_refuse(request)?;
    Ok(admin)
}

fn tell(worker: &Worker, peer: &Peer, why: &NotAnAdmin) {
    worker.counts().not_admins.of(*why).add(1);
    match &peer.certificate {
        Some(certificate) => worker.refusals().record(peer, certificate, why),
        // `incus remote add` begins so.
        None => tracing::debug!(client = %peer.address, "refused: {why}"),
    }
}
