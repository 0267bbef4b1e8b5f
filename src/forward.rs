//! One admin's request to Incus, and its answer back: a pipe that understands nothing of what goes through it.

pub mod headers;
mod tunnel;
mod upgrade;

use std::rc::Rc;

use http::header::{HOST, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use crate::identity::Admin;
use crate::reply::{Refusal, Reply, ReplyBody};
use crate::telemetry::exchange::Exchange;
use crate::upstream::{Answer, RequestBody, Upstream};

/// Hands a request on. Only who holds an [`Admin`] can ask for this.
pub async fn forward(exchange: &Rc<Exchange>, admin: Admin, mut request: Request<Incoming>) -> Result<Reply, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Incus(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT is not for Incus".to_owned(),
        ));
    }
    let upgrade = upgrade::Requested::by(&mut request);
    let upstream = exchange.client().worker.upstream();
    let request = to_upstream(exchange, &upstream, upgrade.as_ref(), request)?;
    match exchange
        .ask_incus(upstream.send(Some(exchange.client().peer.address), request))
        .await?
    {
        Answer::Response(response) => {
            let (mut head, body) = response.into_parts();
            headers::drop_hop_by_hop(&mut head.headers);
            Ok(Response::from_parts(head, ReplyBody::Upstream(body)))
        }
        Answer::Upgraded(response, tunnel) => match upgrade {
            Some(upgrade) => Ok(upgrade.accept(exchange, admin, response, tunnel)),
            None => Err(Refusal::Upstream(crate::upstream::Error::Unusable)),
        },
    }
}

fn to_upstream(
    exchange: &Rc<Exchange>,
    upstream: &Upstream,
    upgrade: Option<&upgrade::Requested>,
    request: Request<Incoming>,
) -> Result<Request<RequestBody>, Refusal> {
    let (mut head, body) = request.into_parts();
    // RFC 9112 §3.2.2: the authority of an absolute-form target, and of HTTP/2, replaces any Host.
    if let Some(authority) = head.uri.authority() {
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::bad_request("the authority is no host"))?;
        head.headers.insert(HOST, host);
    }
    // HTTP/1.0 may name none.
    head.headers.entry(HOST).or_insert_with(|| upstream.host());
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = Uri::try_from(target).map_err(|_| Refusal::bad_request("the path cannot be handed on"))?;
    head.version = http::Version::HTTP_11;
    headers::to_incus(&mut head.headers, exchange.client().peer.address.ip());
    if let Some(upgrade) = upgrade {
        head.headers.insert(UPGRADE, upgrade.protocol().clone());
        head.headers
            .insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    Ok(Request::from_parts(head, RequestBody::of_client(body, exchange)))
}
