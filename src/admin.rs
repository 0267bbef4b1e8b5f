//! The admin port: certificate → [`crate::identity::Admin`] → forward. All other clients are rejected here, before anything
//! else in the request is examined.

use std::rc::Rc;
use std::time::SystemTime;

use http::Request;
use hyper::body::Incoming;

use crate::connection::context::ConnectionContext;
use crate::drain_body;
use crate::forward::forward;
use crate::framing;
use crate::identity::{Admin, AuthError, Peer};
use crate::metrics::endpoint::Endpoint;
use crate::reply::{HttpError, Reply};
use crate::telemetry::request_record::RequestRecord;
use crate::worker::Worker;

/// Responds to one request on the admin port according to the current configuration.
pub async fn answer(record: &Rc<RequestRecord>, request: Request<Incoming>) -> Result<Reply, HttpError> {
    match admit(record, &request) {
        Ok(admin) => forward(record, admin, request).await,
        Err(error) => {
            let ConnectionContext { worker, peer, .. } = &**record.client();
            drain_body::discard_body(worker, request);
            match error {
                HttpError::AuthError(_) => Err(worker
                    .allow_refusal(peer.address.ip())
                    .err()
                    .map_or(error, HttpError::from)),
                error => Err(error),
            }
        }
    }
}

fn admit(record: &RequestRecord, request: &Request<Incoming>) -> Result<Admin, HttpError> {
    let ConnectionContext { worker, peer, .. } = &**record.client();
    let now = SystemTime::now();
    let judged = worker.state().admins.judge(peer.certificate.as_ref(), now);
    let admin = judged.inspect_err(|why| log_rejection(worker, peer, why))?;
    admin.is_seen(now, peer.address.ip());
    record.set_admin(admin.name());
    record.set_endpoint(Endpoint::of_admin(request.uri().path()));
    framing::validate(request)?;
    Ok(admin)
}

fn log_rejection(worker: &Worker, peer: &Peer, why: &AuthError) {
    worker.counts().not_admins.of(*why).add(1);
    match &peer.certificate {
        Some(certificate) => worker.strangers().record_rejected(peer, certificate, why),
        // `incus remote add` connects without a certificate first.
        None => tracing::debug!(client = %peer.address, "rejected: {why}"),
    }
}
