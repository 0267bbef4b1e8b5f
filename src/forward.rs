//! Proxies an administrator's request to Incus and the response back, without interpreting either.

pub mod headers;
mod request_body;
mod tunnel;
mod upgrade;

use std::rc::Rc;

use edge::response::{Reply, ReplyBody};
use edge::shutdown::Shutdown;
use edge::telemetry::request_record::RequestRecord;
use edge::upstream::{RequestBody, Upstream, UpstreamResponse};
use http::header::{HOST, LOCATION, UPGRADE};
use http::response::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use self::request_body::MeteredRequestBody;
use crate::authority::Authority;
use crate::identity::Admin;
use crate::reply::HttpError;
use crate::state::CurrentUpstream;

/// Length of an operation ID.
const UUID: usize = 36;

/// Forwards the requests of administrators.
#[derive(Debug)]
pub struct Forwarder {
    /// Incus.
    pub upstream: Rc<CurrentUpstream>,
    /// Ends the tunnels of those who are no longer administrators.
    pub authority: Rc<Authority>,
    /// Tracks the tasks of the tunnels.
    pub shutdown: Shutdown,
}

impl Forwarder {
    /// Forwards a request. An [`Admin`] is required to call this.
    ///
    /// # Errors
    /// Returns an error if the request cannot be forwarded or Incus does not respond.
    pub async fn forward(
        &self,
        record: &Rc<RequestRecord>,
        admin: Admin,
        mut request: Request<Incoming>,
    ) -> Result<Reply, HttpError> {
        if request.method() == Method::CONNECT {
            return Err(HttpError::Incus(
                StatusCode::METHOD_NOT_ALLOWED,
                "the method CONNECT is not supported".to_owned(),
            ));
        }
        let upgrade = upgrade::Requested::by(&mut request);
        let upstream = self.upstream.get();
        let request = to_upstream(record, &upstream, upgrade.as_ref(), request)?;
        match record
            .time_upstream(upstream.send(Some(record.client().peer.address), request))
            .await?
        {
            UpstreamResponse::Response(response) => {
                let (mut head, body) = response.into_parts();
                headers::drop_hop_by_hop(&mut head.headers);
                if let Some(operation) = started_operation(&head) {
                    record.set_operation(operation);
                }
                Ok(Response::from_parts(head, ReplyBody::Upstream(body)))
            }
            UpstreamResponse::Upgraded(response, tunnel) => match upgrade {
                Some(upgrade) => Ok(upgrade.accept(&self.authority, &self.shutdown, record, admin, response, tunnel)),
                None => Err(HttpError::Upstream(edge::upstream::Error::Unusable)),
            },
        }
    }
}

/// Returns the ID of the operation that Incus has started for a request.
fn started_operation(head: &Parts) -> Option<&str> {
    let location = head
        .headers
        .get(LOCATION)
        .filter(|_| head.status == StatusCode::ACCEPTED)?;
    let id = location.to_str().ok()?.strip_prefix("/1.0/operations/")?;
    let is_id = id.len() == UUID && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then_some(id)
}

fn to_upstream(
    record: &Rc<RequestRecord>,
    upstream: &Upstream,
    upgrade: Option<&upgrade::Requested>,
    request: Request<Incoming>,
) -> Result<Request<RequestBody>, HttpError> {
    let (mut head, body) = request.into_parts();
    // RFC 9112 §3.2.2: the authority of an absolute-form target, and of HTTP/2, replaces any Host header.
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| HttpError::bad_request("the request's authority is not a valid host"))?;
        head.headers.insert(HOST, host);
    }
    // HTTP/1.0 does not require a Host header.
    head.headers.entry(HOST).or_insert_with(|| upstream.host());
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = Uri::try_from(target).map_err(|_| HttpError::bad_request("the request's path is invalid"))?;
    head.version = http::Version::HTTP_11;
    headers::to_incus(&mut head.headers, record.client().peer.address.ip());
    if let Some(upgrade) = upgrade {
        head.headers.insert(UPGRADE, upgrade.protocol().clone());
        head.headers
            .insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    Ok(Request::from_parts(
        head,
        RequestBody::Streamed(Box::pin(MeteredRequestBody::new(body, record))),
    ))
}
