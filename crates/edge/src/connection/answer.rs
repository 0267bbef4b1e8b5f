//! The answer to each request: the service that the listener mounts on its path gives it, unless a limit forbids that.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::memory;
use super::response_body::PacedBody;
use crate::admission::{MinRate, Rejection};
use crate::connection::context::ConnectionContext;
use crate::drain_body;
use crate::framing;
use crate::listener_id::Policy;
use crate::response;
use crate::service::{Listener, Outcome, Then};
use crate::telemetry::request_record::{MeteredBody, RequestRecord};

type PacedResponse = Response<PacedBody<MeteredBody>>;
type ResponseFuture = Pin<Box<dyn Future<Output = Result<PacedResponse, Infallible>>>>;

/// Creates hyper's service. Its future is boxed, because hyper reserves memory for it on every connection, however idle.
pub(super) fn service(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
) -> impl hyper::service::Service<Request<Incoming>, Response = PacedResponse, Error = Infallible, Future = ResponseFuture>
{
    service_fn(move |request| -> ResponseFuture { Box::pin(answer(Rc::clone(&client), Rc::clone(&listener), request)) })
}

async fn answer(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
    request: Request<Incoming>,
) -> Result<PacedResponse, Infallible> {
    let ConnectionContext {
        worker,
        begun,
        activity,
        ..
    } = &*client;
    begun.notify_one();
    let Some(answering) = activity.answer() else {
        // Another connection has already evicted this one, which is about to be closed.
        return pending().await;
    };
    let record = RequestRecord::begin(Rc::clone(&client), &request);
    let is_head = request.method() == Method::HEAD;
    let is_connect = request.method() == Method::CONNECT;
    let version = request.version();
    let upgrade = request.extensions().get::<OnUpgrade>().cloned();
    let service = listener.service(request.uri().path());
    let (Outcome { mut reply, mut then }, pace) = match check(&client, &request) {
        Ok(pace) => (Rc::clone(service).answer(Rc::clone(&record), request).await, pace),
        Err(why) => {
            let reply = service.reject(why);
            let then = Then::after(why).max(drain_body::discard_body(worker.shutdown(), request));
            (Outcome { reply, then }, None)
        }
    };
    if is_connect {
        // What follows is not HTTP.
        then = then.max(Then::Close);
    }
    if is_head {
        response::leave_out_body(&mut reply);
    }
    let is_last = match then {
        Then::KeepOpen => false,
        Then::Unread => http_body::Body::is_end_stream(reply.body()),
        Then::Close | Then::Leave => true,
    };
    match version {
        // `ConnectionTimeouts` closes the connection.
        Version::HTTP_2 if then == Then::Leave => activity.leave(),
        // HTTP/2 frames mark the end of a stream.
        Version::HTTP_2 => {}
        _ if is_last => {
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(CONNECTION, close);
        }
        _ => {}
    }
    if let Some(upgrade) = upgrade
        && reply.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        let time_limit = worker.config().limits.idle_timeout;
        worker.shutdown().spawn(close_declined(upgrade, time_limit));
    }
    if let Some(reader) = &client.reader {
        reply = memory::try_acquire(reply, reader);
    }
    let answer = record.answer(reply);
    Ok(answer.map(|body| PacedBody::new(body, answering, activity, pace, version)))
}

/// Checks a request before its service sees it, and returns the minimum rate for reading the response, if there is one. On an
/// authenticated listener, the service itself checks who sent the request first.
fn check(client: &ConnectionContext, request: &Request<Incoming>) -> Result<Option<MinRate>, Rejection> {
    if client.listener.policy() == Policy::Authenticated {
        return Ok(None);
    }
    let address = client.peer.address.ip();
    let allowed = client
        .worker
        .check_request(client.listener, address, client.counted_by.as_deref());
    let unambiguous = framing::validate(request);
    let checked = match request.version() {
        Version::HTTP_2 => allowed.and_then(|pace| unambiguous.map(|()| pace)),
        // An ambiguous request takes precedence, because it ends the connection.
        _ => unambiguous.and(allowed),
    };
    checked.map(Some)
}

/// Closes a connection whose upgrade request was declined. hyper hands such a stream over to the holder of the upgrade once
/// it is done with it. Without a holder it is dropped, which resets the connection while the end of the response is still in
/// flight. The client has as long to read the response as any other client.
async fn close_declined(upgrade: OnUpgrade, time_limit: Duration) {
    if let Ok(stream) = upgrade.await {
        // The client may have disconnected first.
        let _ = timeout(time_limit, TokioIo::new(stream).shutdown()).await;
    }
}
