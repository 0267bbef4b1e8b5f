//! A connection after its handshake: serves HTTP/1.1 or HTTP/2 until the connection ends.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::answer::service;
use super::drain::drain_deadline;
use super::h2_executor::H2Executor;
use crate::abort_reason::AbortReason;
use crate::client_stream::ClientStream;
use crate::connection::context::ConnectionContext;
use crate::connection::timeouts::{ConnectionTimeouts, TimeoutKind};
use crate::limits::Limits;
use crate::listener_id::Policy;
use crate::service::Listener;

const MAX_HEADERS: usize = 256;
/// Maximum memory for a response that an HTTP/1.1 client does not read, in bytes per connection.
const H1_BUFFER: usize = 64 << 10;
/// The same for HTTP/2, in bytes per stream.
const H2_BUFFER: usize = 64 << 10;
/// Maximum number of concurrent streams on an HTTP/2 connection of an authenticated listener.
const H2_STREAMS: u32 = 100;
/// The same on an open listener. Each stream may hold two buffers and an upstream connection.
const H2_STREAMS_OF_STRANGERS: u32 = 32;
/// Timeout of an HTTP/2 keep-alive ping. A client answers only after it has read the data ahead of the ping, which can be
/// megabytes in the buffers of both kernels. A slow client needs minutes for them.
const H2_PONG: Duration = Duration::from_mins(5);

/// Completes when the connection is evicted.
pub(super) type Evicted = Pin<Box<dyn Future<Output = ()>>>;

/// Serves the protocol that ALPN selected. Each protocol has its own task type, so that neither reserves memory for the
/// other.
pub(super) fn serve(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
    stream: ClientStream,
    limits: Limits,
    evicted: Option<Evicted>,
) {
    let worker = Rc::clone(&client.worker);
    match stream.speaks_h2() {
        true => worker
            .shutdown()
            .spawn(serve_h2(client, listener, stream, limits, evicted)),
        false => worker
            .shutdown()
            .spawn(serve_h1(client, listener, stream, limits, evicted)),
    }
}

fn serve_h1(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
    stream: ClientStream,
    limits: Limits,
    evicted: Option<Evicted>,
) -> impl Future<Output = ()> {
    // `ConnectionTimeouts` implements the header timeout: hyper's would start at the last response.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.max_header_size)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_header_size.max(H1_BUFFER))
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client), Rc::clone(&listener)))
        .with_upgrades();
    let clock = ConnectionTimeouts::new(&limits, client.listener.policy(), true);
    drive(
        client,
        listener,
        Box::pin(connection),
        http1::UpgradeableConnection::graceful_shutdown,
        clock,
        evicted,
    )
}

fn serve_h2(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
    stream: ClientStream,
    limits: Limits,
    evicted: Option<Evicted>,
) -> impl Future<Output = ()> {
    let streams = match client.listener.policy() {
        Policy::Authenticated => H2_STREAMS,
        Policy::Open => H2_STREAMS_OF_STRANGERS,
    };
    let connection = http2::Builder::new(H2Executor(Rc::clone(&client)))
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(H2_PONG)
        .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(streams)
        .max_send_buf_size(H2_BUFFER)
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client), Rc::clone(&listener)));
    let clock = ConnectionTimeouts::new(&limits, client.listener.policy(), false);
    drive(
        client,
        listener,
        Box::pin(connection),
        http2::Connection::graceful_shutdown,
        clock,
        evicted,
    )
}

/// Drives a connection until it ends: by itself, in a drain, because its client is no longer authorized, or because
/// its client exceeds a limit.
async fn drive<C>(
    client: Rc<ConnectionContext>,
    listener: Rc<Listener>,
    mut connection: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    mut clock: ConnectionTimeouts,
    mut evicted: Option<Evicted>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let ConnectionContext {
        worker,
        listener: port,
        peer,
        begun,
        aborted,
        ending,
        activity,
        ..
    } = &*client;
    let mut draining = pin!(drain_deadline(worker.shutdown(), begun.notified()));
    let mut revoked = pin!(listener.revoked(peer, || activity.lift_input_limit()));
    let mut over_budget = pin!(over_budget(&client));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            why = &mut revoked => {
                tracing::info!(client = %peer.address, aborted_by = %why, "closed the connection of an administrator who is no longer authorized");
                aborted.set(Some(why));
                return;
            }
            () = async { evicted.as_mut().expect("the condition").await }, if evicted.is_some() => {
                aborted.set(Some(AbortReason::Limit));
                return tracing::debug!(client = %peer.address, "evicted by a new connection");
            }
            () = &mut over_budget => {
                aborted.set(Some(AbortReason::Limit));
                return tracing::debug!(client = %peer.address, "reset the connection: its unread responses use too much memory");
            }
            has_begun = &mut draining, if !is_draining => {
                is_draining = true;
                shut_down(connection.as_mut());
                if !has_begun {
                    // Nothing is in flight. What does not end immediately is aborted, for example HTTP/2 before the client's
                    // preface.
                    let _ = timeout(Duration::ZERO, connection).await;
                    return;
                }
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%port, client = %peer.address, %error, "connection aborted");
                }
                return;
            }
            overdue = poll_fn(|cx| clock.poll(activity, cx)) => match overdue {
                TimeoutKind::Close => shut_down(connection.as_mut()),
                TimeoutKind::Request => {
                    // This timeout only runs between responses.
                    ending.close_gracefully();
                    return tracing::debug!(%port, client = %peer.address, "closed the connection: timeout waiting for a complete request");
                }
                TimeoutKind::Stalled => return client.abort_stalled(),
            }
        }
    }
}

/// Completes when the client's unread responses take too much memory.
async fn over_budget(client: &ConnectionContext) {
    match &client.reader {
        Some(reader) => reader.evicted().await,
        None => pending().await,
    }
}
