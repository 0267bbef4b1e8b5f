//! One connection of a client: handshake, HTTP/1.1 or 2, the answer to each request, the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::config::Limits;
use crate::identity::Peer;
use crate::net::{self, ClientStream, Port};
use crate::public;
use crate::reply::{self, Reply};
use crate::worker::Worker;

const MAX_HEADERS: usize = 256;
/// What one HTTP/1.1 connection may hold in memory of an answer that its client does not read.
const H1_BUFFER: usize = 128 << 10;
/// The same for each stream of HTTP/2.
const H2_BUFFER: usize = 64 << 10;
const H2_STREAMS: u32 = 100;

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, port: Port, tcp: TcpStream, address: SocketAddr) {
    net::tune(&tcp);
    let live = worker.live();
    let config = match port {
        Port::Admin => &live.admin_tls,
        Port::Public => &live.public_tls,
    };
    let handshake = TlsAcceptor::from(config.clone()).accept(tcp);
    let handshake = tokio::select! {
        biased;
        () = worker.draining() => return,
        handshake = timeout(live.limits.handshake, handshake) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => ClientStream::new(stream),
        // A client's fault is not our warning.
        Ok(Err(error)) => return tracing::debug!(%port, client = %address, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%port, client = %address, "handshake took too long"),
    };
    let limits = live.limits;
    drop(live);

    let peer = Rc::new(Peer {
        address,
        certificate: stream.certificate(),
    });
    let served = match stream.speaks_h2() {
        true => serve_h2(&worker, port, &peer, stream, limits).await,
        false => serve_h1(&worker, port, &peer, stream, limits).await,
    };
    if let Err(error) = served {
        tracing::debug!(%port, client = %address, %error, "the connection was cut");
    }
}

async fn serve_h1(
    worker: &Rc<Worker>,
    port: Port,
    peer: &Rc<Peer>,
    stream: ClientStream,
    limits: Limits,
) -> hyper::Result<()> {
    let service = service_fn(|request| answer(Rc::clone(worker), port, Rc::clone(peer), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_size)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.head_size.max(H1_BUFFER))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    drive(
        worker,
        peer,
        connection,
        http1::UpgradeableConnection::graceful_shutdown,
    )
    .await
}

async fn serve_h2(
    worker: &Rc<Worker>,
    port: Port,
    peer: &Rc<Peer>,
    stream: ClientStream,
    limits: Limits,
) -> hyper::Result<()> {
    // A stream's task may outlive this function by a moment, so it must own what it uses.
    let owned = (Rc::clone(worker), Rc::clone(peer));
    let service = service_fn(move |request| answer(Rc::clone(&owned.0), port, Rc::clone(&owned.1), request));
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(limits.head)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(H2_STREAMS)
        .max_send_buf_size(H2_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    drive(worker, peer, connection, http2::Connection::graceful_shutdown).await
}

/// Until the connection ends: by itself, in a drain, or because its admin is none any more.
async fn drive<C>(worker: &Worker, peer: &Peer, connection: C, shut_down: fn(Pin<&mut C>)) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut draining = pin!(worker.draining());
    let mut revoked = pin!(revoked(worker, peer));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            () = &mut revoked => {
                tracing::info!(client = %peer.address, "closed the connection of an admin who is none any more");
                return Ok(());
            }
            () = &mut draining, if !is_draining => {
                is_draining = true;
                shut_down(connection.as_mut());
            }
            ended = &mut connection => return ended,
        }
    }
}

async fn answer(
    worker: Rc<Worker>,
    port: Port,
    peer: Rc<Peer>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let is_head = request.method() == Method::HEAD;
    let wish = request.extensions().get::<OnUpgrade>().cloned();
    let answer = match port {
        Port::Admin => admin::answer(&worker, &peer, request).await,
        Port::Public => public::answer(&worker, &request).await,
    };
    let mut reply = answer.unwrap_or_else(Reply::from);
    if is_head {
        reply::leave_out_body(&mut reply);
    }
    if let Some(wish) = wish
        && reply.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        worker.spawn(close_in_order(wish));
    }
    Ok(reply)
}

/// Where a client has wished for an upgrade in vain, hyper leaves the stream, once it is done with it, to whoever heeds
/// the wish. Nobody does: it has to be closed, or it would be reset with the end of the answer still on its way.
async fn close_in_order(wish: OnUpgrade) {
    if let Ok(stream) = wish.await {
        // The client may have gone first.
        let _ = TokioIo::new(stream).shutdown().await;
    }
}

async fn revoked(worker: &Worker, peer: &Peer) {
    match &peer.certificate {
        Some(certificate) => worker.revoked(certificate.clone()).await,
        None => std::future::pending().await,
    }
}

/// hyper's HTTP/2 runs each stream as a task; ours stay on their worker.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
