//! The answer to each request.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::memory;
use super::response_body::PacedBody;
use crate::admin;
use crate::connection::context::ConnectionContext;
use crate::drain_body;
use crate::framing;
use crate::port::Port;
use crate::public;
use crate::reply::{self, HttpError, Reply};
use crate::telemetry::request_record::{MeteredBody, RequestRecord};

type ServiceResponse = Response<PacedBody<MeteredBody>>;
type ResponseFuture = Pin<Box<dyn Future<Output = Result<ServiceResponse, Infallible>>>>;

/// Boxed, for hyper keeps room for an answer in the making on every connection, however idle.
pub(super) fn service(
    client: Rc<ConnectionContext>,
) -> impl Service<Request<Incoming>, Response = ServiceResponse, Error = Infallible, Future = ResponseFuture> {
    service_fn(move |request| -> ResponseFuture { Box::pin(answer(Rc::clone(&client), request)) })
}

async fn answer(client: Rc<ConnectionContext>, request: Request<Incoming>) -> Result<ServiceResponse, Infallible> {
    let ConnectionContext {
        worker,
        port,
        peer,
        begun,
        activity,
        ..
    } = &*client;
    begun.notify_one();
    let Some(answering) = activity.answer() else {
        // Its place is another's already, and the connection about to be closed.
        return pending().await;
    };
    let record = RequestRecord::begin(Rc::clone(&client), &request);
    let is_head = request.method() == Method::HEAD;
    let is_connect = request.method() == Method::CONNECT;
    let version = request.version();
    let wish = request.extensions().get::<OnUpgrade>().cloned();
    let (answer, pace, is_unread) = match port {
        Port::Admin => (admin::answer(&record, request).await, None, false),
        Port::Public => {
            let allowed = worker.check_request(peer.address.ip(), client.counted_by.as_deref());
            let allowed = allowed.map_err(HttpError::from);
            let plain = framing::validate(&request);
            let welcome = match version {
                Version::HTTP_2 => allowed.and_then(|pace| plain.map(|()| pace)),
                // Its connection ends, whatever else there is to say.
                _ => plain.and(allowed),
            };
            let (answer, pace) = match welcome {
                Ok(pace) => (public::answer(&record, &request).await, Some(pace)),
                Err(error) => (Err(error), None),
            };
            let is_unread = !request.body().is_end_stream();
            // Whatever it was, it was for none of the questions.
            drain_body::discard_body(worker, request);
            (answer, pace, is_unread)
        }
    };
    let is_unwelcome = match (&answer, port) {
        (Err(HttpError::Network | HttpError::AuthError(_)), _) => true,
        // Of the admin port's clients, only those without a listed certificate are counted.
        (Err(HttpError::TooManyRequests(_)), Port::Admin) => true,
        _ => false,
    };
    // What comes behind these may be no request.
    let is_last = is_connect || matches!(answer, Err(HttpError::Ambiguous(_)));
    let mut reply = answer.unwrap_or_else(Reply::from);
    if *port == Port::Public {
        // A cache asks for all that it keeps: what is unpublished is gone from there too, and what was missing is found.
        let no_cache = HeaderValue::from_static("no-cache");
        reply.headers_mut().entry(CACHE_CONTROL).or_insert(no_cache);
    }
    if is_head {
        reply::leave_out_body(&mut reply);
    }
    // hyper waits for room before it answers the next request, but not where a body ends after its answer and that has none:
    // heads would pile up for a client that reads nothing.
    let is_last = is_last || (is_unread && reply.body().is_end_stream());
    match version {
        // The clock sees to that.
        Version::HTTP_2 if is_unwelcome => activity.leave(),
        // Where a stream ends, its frames say.
        Version::HTTP_2 => {}
        _ if is_unwelcome || is_last => {
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(CONNECTION, close);
        }
        _ => {}
    }
    if let Some(wish) = wish
        && reply.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        worker.spawn(close_in_order(wish, worker.state().limits.idle_timeout));
    }
    if let Some(reader) = &client.reader {
        reply = memory::try_acquire(reply, reader);
    }
    let answer = record.answer(reply);
    Ok(answer.map(|body| PacedBody::new(body, answering, activity, pace, version)))
}

/// Where a client has wished for an upgrade in vain, hyper leaves the stream, once it is done with it, to whoever heeds
/// the wish. Nobody does: it has to be closed, or it would be reset with the end of the answer still on its way. The client
/// has as long to take that as any other has.
async fn close_in_order(wish: OnUpgrade, patience: Duration) {
    if let Ok(stream) = wish.await {
        // The client may have gone first.
        let _ = timeout(patience, TokioIo::new(stream).shutdown()).await;
    }
}
