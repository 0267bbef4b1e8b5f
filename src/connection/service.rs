//! The response to each request.

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

/// Creates the service. Its future is boxed, because hyper reserves memory for it on every connection, however idle.
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
        // Another connection has already evicted this one, which is about to be closed.
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
            let checked = match version {
                Version::HTTP_2 => allowed.and_then(|pace| plain.map(|()| pace)),
                // An ambiguous request takes precedence, because it ends the connection.
                _ => plain.and(allowed),
            };
            let (answer, pace) = match checked {
                Ok(pace) => (public::answer(&record, &request).await, Some(pace)),
                Err(error) => (Err(error), None),
            };
            let is_unread = !request.body().is_end_stream();
            // No public endpoint reads a request body.
            drain_body::discard_body(worker, request);
            (answer, pace, is_unread)
        }
    };
    let is_unwelcome = match (&answer, port) {
        (Err(HttpError::Network | HttpError::AuthError(_)), _) => true,
        // On the admin port, only clients without a listed certificate are limited.
        (Err(HttpError::TooManyRequests(_)), Port::Admin) => true,
        _ => false,
    };
    // The bytes after these may not be a request.
    let is_last = is_connect || matches!(answer, Err(HttpError::Ambiguous(_)));
    let mut reply = answer.unwrap_or_else(Reply::from);
    if *port == Port::Public {
        // Caches must revalidate everything they store: an unpublished image disappears from them too, and a missing one is
        // found.
        let no_cache = HeaderValue::from_static("no-cache");
        reply.headers_mut().entry(CACHE_CONTROL).or_insert(no_cache);
    }
    if is_head {
        reply::leave_out_body(&mut reply);
    }
    // hyper waits for buffer space before it answers the next request, but not where a request body ends after a response
    // that has none: response headers would pile up for a client that does not read.
    let is_last = is_last || (is_unread && reply.body().is_end_stream());
    match version {
        // `ConnectionTimeouts` closes the connection.
        Version::HTTP_2 if is_unwelcome => activity.leave(),
        // HTTP/2 frames mark the end of a stream.
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
        worker
            .shutdown()
            .spawn(close_in_order(wish, worker.state().limits.idle_timeout));
    }
    if let Some(reader) = &client.reader {
        reply = memory::try_acquire(reply, reader);
    }
    let answer = record.answer(reply);
    Ok(answer.map(|body| PacedBody::new(body, answering, activity, pace, version)))
}

/// Closes a connection whose upgrade request was declined. hyper hands such a stream over to the holder of the upgrade once
/// it is done with it. Without a holder it is dropped, which resets the connection while the end of the response is still in
/// flight. The client has as long to read the response as any other client.
async fn close_in_order(wish: OnUpgrade, time_limit: Duration) {
    if let Ok(stream) = wish.await {
        // The client may have disconnected first.
        let _ = timeout(time_limit, TokioIo::new(stream).shutdown()).await;
    }
}
