//! The admin port: certificate → [`crate::identity::Admin`] → forward. All other clients are rejected here, before anything
//! else in the request is examined.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use edge::admission::{Limiter, Rejection};
use edge::counters::Counter;
use edge::counters::label::LabelMap;
use edge::drain_body;
use edge::framing;
use edge::peer::Peer;
use edge::response::Reply;
use edge::service::{Answer, Outcome, Service, Then};
use edge::telemetry::request_record::RequestRecord;
use edge::telemetry::stranger_log::StrangerLog;
use http::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::forward::Forwarder;
use crate::identity::{Admin, AuthError};
use crate::metrics::endpoint::Endpoint;
use crate::reply::HttpError;
use crate::state::State;

/// Serves administrators.
#[derive(Debug)]
pub struct AdminService {
    /// The active configuration and its state.
    pub state: watch::Receiver<Arc<State>>,
    /// Serves those who have shown that they are administrators.
    pub forwarder: Forwarder,
    /// Limits the requests of all others.
    pub limiter: Arc<Limiter>,
    /// Logs the certificates of all others.
    pub strangers: Arc<StrangerLog>,
    /// Counts the requests of all others, by reason.
    pub rejected: Arc<LabelMap<AuthError, Counter>>,
}

impl Service for AdminService {
    fn answer(self: Rc<Self>, record: Rc<RequestRecord>, request: Request<Incoming>) -> Answer {
        Box::pin(async move {
            let answer = match self.admit(&record, &request) {
                Ok(admin) => self.forwarder.forward(&record, admin, request).await,
                Err(error) => {
                    drain_body::discard_body(&self.forwarder.shutdown, request);
                    Err(error)
                }
            };
            let then = answer.as_ref().map_or_else(then, |_| Then::KeepOpen);
            Outcome {
                reply: answer.unwrap_or_else(Reply::from),
                then,
            }
        })
    }

    fn reject(&self, why: Rejection) -> Reply {
        HttpError::from(why).into()
    }
}

impl AdminService {
    /// Authorizes one request according to the current configuration.
    fn admit(&self, record: &RequestRecord, request: &Request<Incoming>) -> Result<Admin, HttpError> {
        let peer = &record.client().peer;
        let now = SystemTime::now();
        let judged = self.state.borrow().admins.judge(peer.certificate.as_ref(), now);
        let admin = judged.map_err(|why| self.refuse(peer, why))?;
        admin.record_seen(now, peer.address.ip());
        record.set_user(admin.name());
        record.set_endpoint(Endpoint::of_admin(request.uri().path()));
        framing::validate(request)?;
        Ok(admin)
    }

    /// Logs and counts a client that is no administrator. Its requests are limited as on an open listener.
    fn refuse(&self, peer: &Peer, why: AuthError) -> HttpError {
        self.rejected.of(why).add(1);
        match &peer.certificate {
            Some(certificate) => self.strangers.record_rejected(peer, certificate, &why),
            // `incus remote add` connects without a certificate first.
            None => tracing::debug!(client = %peer.address, "rejected: {why}"),
        }
        let requests = self.state.borrow().edge.limits.requests_per_second;
        match self.limiter.try_acquire(peer.address.ip(), requests) {
            Ok(()) => why.into(),
            Err(wait) => self.limiter.too_many_requests(peer.address.ip(), requests, wait).into(),
        }
    }
}

/// Returns what becomes of a connection after an error.
fn then(error: &HttpError) -> Then {
    match error {
        // Only clients without a listed certificate are limited.
        HttpError::AuthError(_) | HttpError::Rejected(Rejection::TooManyRequests(_)) => Then::Leave,
        HttpError::Rejected(why) => Then::after(*why),
        _ => Then::KeepOpen,
    }
}
