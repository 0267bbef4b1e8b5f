//! A connection after its handshake: HTTP/1.1 or 2, until its end.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::drain::drain_deadline;
use super::h2_executor::H2Executor;
use super::service::service;
use crate::abort_reason::AbortReason;
use crate::client_stream::ClientStream;
use crate::connection::context::ConnectionContext;
use crate::connection::timeouts::{ConnectionTimeouts, TimeoutKind};
use crate::identity::Peer;
use crate::limits::Limits;
use crate::port::Port;
use crate::worker::Worker;

const MAX_HEADERS: usize = 256;
/// What one HTTP/1.1 connection may hold in memory of an answer that its client does not read.
const H1_BUFFER: usize = 64 << 10;
/// The same for each stream of HTTP/2.
const H2_BUFFER: usize = 64 << 10;
/// Streams of an admin's HTTP/2 connection at a time.
const H2_STREAMS: u32 = 100;
/// The same for a stranger: each of them may hold two buffers and a connection to Incus.
const H2_STREAMS_OF_STRANGERS: u32 = 32;
/// How long HTTP/2 waits for a sign of life. That comes only once a client has read what lies before our question, which may
/// be megabytes in both kernels' hands: a slow one needs minutes for them.
const H2_PONG: Duration = Duration::from_mins(5);

/// Told when its client must make room for others.
pub(super) type Evicted = Pin<Box<dyn Future<Output = ()>>>;

/// Speaks what ALPN chose, in a task that has no room for the other.
pub(super) fn serve(client: Rc<ConnectionContext>, stream: ClientStream, limits: Limits, evicted: Option<Evicted>) {
    let worker = Rc::clone(&client.worker);
    match stream.speaks_h2() {
        true => worker.spawn(serve_h2(client, stream, limits, evicted)),
        false => worker.spawn(serve_h1(client, stream, limits, evicted)),
    }
}

fn serve_h1(
    client: Rc<ConnectionContext>,
    stream: ClientStream,
    limits: Limits,
    evicted: Option<Evicted>,
) -> impl Future<Output = ()> {
    // The time for a head is the `ConnectionTimeouts`'s: hyper's would count from the last answer.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.max_header_size)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_header_size.max(H1_BUFFER))
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)))
        .with_upgrades();
    let clock = ConnectionTimeouts::new(&limits, client.port, true);
    drive(
        client,
        Box::pin(connection),
        http1::UpgradeableConnection::graceful_shutdown,
        clock,
        evicted,
    )
}

fn serve_h2(
    client: Rc<ConnectionContext>,
    stream: ClientStream,
    limits: Limits,
    evicted: Option<Evicted>,
) -> impl Future<Output = ()> {
    let streams = match client.port {
        Port::Admin => H2_STREAMS,
        Port::Public => H2_STREAMS_OF_STRANGERS,
    };
    let connection = http2::Builder::new(H2Executor(Rc::clone(&client)))
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(H2_PONG)
        .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(streams)
        .max_send_buf_size(H2_BUFFER)
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)));
    let clock = ConnectionTimeouts::new(&limits, client.port, false);
    drive(
        client,
        Box::pin(connection),
        http2::Connection::graceful_shutdown,
        clock,
        evicted,
    )
}

/// Until the connection ends: by itself, in a drain, because its admin is none any more, or because its client takes more
/// of us than it may.
async fn drive<C>(
    client: Rc<ConnectionContext>,
    mut connection: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    mut clock: ConnectionTimeouts,
    mut evicted: Option<Evicted>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let ConnectionContext {
        worker,
        port,
        peer,
        begun,
        cut,
        ending,
        activity,
        ..
    } = &*client;
    let mut draining = pin!(drain_deadline(worker, begun.notified()));
    let mut revoked = pin!(revoked(worker, peer));
    let mut over_budget = pin!(over_budget(&client));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            why = &mut revoked => {
                tracing::info!(client = %peer.address, aborted_by = %why, "closed the connection of an admin who is none any more");
                cut.set(Some(why));
                return;
            }
            () = async { evicted.as_mut().expect("the condition").await }, if evicted.is_some() => {
                cut.set(Some(AbortReason::Limit));
                return tracing::debug!(client = %peer.address, "made room for others");
            }
            () = &mut over_budget => {
                cut.set(Some(AbortReason::Limit));
                return tracing::debug!(client = %peer.address, "reset: its unread answers held too much memory");
            }
            has_begun = &mut draining, if !is_draining => {
                is_draining = true;
                shut_down(connection.as_mut());
                if !has_begun {
                    // Nothing is under way: what does not end at once, as HTTP/2 that waits for its client's first word, is cut.
                    let _ = timeout(Duration::ZERO, connection).await;
                    return;
                }
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%port, client = %peer.address, %error, "the connection was cut");
                }
                return;
            }
            overdue = poll_fn(|cx| clock.poll(activity, cx)) => match overdue {
                TimeoutKind::Close => shut_down(connection.as_mut()),
                TimeoutKind::Request => {
                    // Time runs between answers alone.
                    ending.close_gracefully();
                    return tracing::debug!(%port, client = %peer.address, "closed: no request came in time, or no end");
                }
                TimeoutKind::Stalled => return client.abort_stalled(),
            }
        }
    }
}

/// Completes when what the client has not read takes too much memory.
async fn over_budget(client: &ConnectionContext) {
    match &client.reader {
        Some(reader) => reader.evicted().await,
        None => pending().await,
    }
}

/// Completes when the client was an administrator and no longer is; it may become one by a reload.
async fn revoked(worker: &Worker, peer: &Peer) -> AbortReason {
    let Some(certificate) = &peer.certificate else {
        return pending().await;
    };
    // Boxed: most connections have no certificate, and would have room for this.
    Box::pin(async {
        worker.admitted(certificate).await;
        worker.revoked(certificate, peer.address.ip()).await
    })
    .await
}
