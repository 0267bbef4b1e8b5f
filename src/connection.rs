//! One connection of a client: handshake, HTTP/1.1 or 2, the answer to each request, the end.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::client::{Client, Cut};
use crate::config::Limits;
use crate::identity::Peer;
use crate::net::{self, ClientStream, Port};
use crate::public;
use crate::reply::{self, Reply};
use crate::telemetry::exchange::{Exchange, RecordedBody};
use crate::worker::Worker;

const MAX_HEADERS: usize = 256;
/// What one HTTP/1.1 connection may hold in memory of an answer that its client does not read.
const H1_BUFFER: usize = 64 << 10;
/// The same for each stream of HTTP/2.
const H2_BUFFER: usize = 64 << 10;
const H2_STREAMS: u32 = 100;
/// A drain still serves who was accepted before it, if they ask for something within this time: a restart behind systemd's
/// socket refuses nobody.
const LATECOMERS: Duration = Duration::from_secs(2);

/// Does the handshake, and leaves the connection to a task of its own, which has no room for what is over.
pub async fn welcome(worker: Rc<Worker>, port: Port, tcp: TcpStream, address: SocketAddr) {
    net::tune(&tcp);
    let live = worker.live();
    let config = match port {
        Port::Admin => &live.admin_tls,
        Port::Public => &live.public_tls,
    };
    let handshake = TlsAcceptor::from(config.clone()).accept(tcp);
    let handshake = tokio::select! {
        biased;
        () = no_longer_awaited(&worker, std::future::pending()) => return,
        handshake = timeout(live.limits.handshake, handshake) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => ClientStream::new(stream),
        // A client's fault is not our warning.
        Ok(Err(error)) => return tracing::debug!(%port, client = %address, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%port, client = %address, "handshake took too long"),
    };
    let client = Rc::new(Client {
        worker: Rc::clone(&worker),
        port,
        peer: Peer {
            address,
            certificate: stream.certificate(),
        },
        tls: stream.version(),
        begun: Notify::new(),
        cut: Cell::new(None),
    });
    match stream.speaks_h2() {
        true => worker.spawn(serve_h2(client, stream, live.limits)),
        false => worker.spawn(serve_h1(client, stream, live.limits)),
    }
}

fn serve_h1(client: Rc<Client>, stream: ClientStream, limits: Limits) -> impl Future<Output = ()> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_size)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.head_size.max(H1_BUFFER))
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)))
        .with_upgrades();
    drive(
        client,
        Box::pin(connection),
        http1::UpgradeableConnection::graceful_shutdown,
    )
}

fn serve_h2(client: Rc<Client>, stream: ClientStream, limits: Limits) -> impl Future<Output = ()> {
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(limits.head)
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(H2_STREAMS)
        .max_send_buf_size(H2_BUFFER)
        .serve_connection(TokioIo::new(stream), service(Rc::clone(&client)));
    drive(client, Box::pin(connection), http2::Connection::graceful_shutdown)
}

/// Until the connection ends: by itself, in a drain, or because its admin is none any more.
async fn drive<C>(client: Rc<Client>, mut connection: Pin<Box<C>>, shut_down: fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let Client {
        worker,
        port,
        peer,
        begun,
        cut,
        ..
    } = &*client;
    let mut draining = pin!(no_longer_awaited(worker, begun.notified()));
    let mut revoked = pin!(revoked(worker, peer));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            () = &mut revoked => {
                tracing::info!(client = %peer.address, "closed the connection of an admin who is none any more");
                cut.set(Some(Cut::Revoked));
                return;
            }
            () = &mut draining, if !is_draining => {
                is_draining = true;
                shut_down(connection.as_mut());
            }
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%port, client = %peer.address, %error, "the connection was cut");
                }
                return;
            }
        }
    }
}

/// Completes in a drain, at once for who has begun, and a little later for who has not.
async fn no_longer_awaited(worker: &Worker, begun: impl Future<Output = ()>) {
    worker.draining().await;
    tokio::select! {
        () = begun => {}
        // Boxed, for only a drain needs it, and every connection would have room for it.
        () = Box::pin(sleep(LATECOMERS)) => {}
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<RecordedBody>, Infallible>>>>;

/// Boxed, for hyper keeps room for an answer in the making on every connection, however idle.
fn service(
    client: Rc<Client>,
) -> impl Service<Request<Incoming>, Response = Response<RecordedBody>, Error = Infallible, Future = Answer> {
    service_fn(move |request| -> Answer { Box::pin(answer(Rc::clone(&client), request)) })
}

async fn answer(client: Rc<Client>, request: Request<Incoming>) -> Result<Response<RecordedBody>, Infallible> {
    client.begun.notify_one();
    let exchange = Exchange::begin(Rc::clone(&client), &request);
    let is_head = request.method() == Method::HEAD;
    let wish = request.extensions().get::<OnUpgrade>().cloned();
    let answer = match client.port {
        Port::Admin => admin::answer(&exchange, request).await,
        Port::Public => public::answer(&exchange, &request).await,
    };
    let mut reply = answer.unwrap_or_else(Reply::from);
    if is_head {
        reply::leave_out_body(&mut reply);
    }
    if let Some(wish) = wish
        && reply.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        client.worker.spawn(close_in_order(wish));
    }
    Ok(exchange.answer(reply))
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
