//! One connection of a client: handshake, HTTP/1.1 or 2, the answer to each request, the end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admin::{self, PeerCertificate};
use crate::config::Limits;
use crate::listener::Port;
use crate::reply::Reply;
use crate::worker::Worker;
use crate::{net, public};

const MAX_HEADERS: usize = 256;
/// What one HTTP/1.1 connection may hold in memory of an answer that its client does not read.
const H1_BUFFER: usize = 128 << 10;
/// The same for each stream of HTTP/2.
const H2_BUFFER: usize = 64 << 10;
const H2_STREAMS: u32 = 100;

/// The other end of a connection, as far as it has proved who it is.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// What it has shown. Nobody has judged it yet.
    pub certificate: Option<PeerCertificate>,
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, port: Port, tcp: TcpStream, address: SocketAddr) {
    net::tune(&tcp);
    let live = worker.live();
    let config = match port {
        Port::Admin => &live.admin_tls,
        Port::Public => &live.public_tls,
    };
    let handshake = TlsAcceptor::from(config.clone()).accept(tcp);
    let stream = match timeout(live.limits.handshake, handshake).await {
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

/// hyper's connections have no trait in common; this is what is done with each.
macro_rules! drive {
    ($worker:expr, $peer:expr, $connection:expr) => {{
        let mut connection = pin!($connection);
        let mut draining = pin!($worker.draining());
        let mut revoked = pin!(revoked($worker, $peer));
        let mut is_draining = false;
        loop {
            tokio::select! {
                biased;
                () = &mut revoked => {
                    tracing::info!(client = %$peer.address, "closed the connection of an admin who is none any more");
                    return Ok(());
                }
                () = &mut draining, if !is_draining => {
                    is_draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                ended = &mut connection => return ended,
            }
        }
    }};
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
    drive!(worker, peer, connection)
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
    drive!(worker, peer, connection)
}

async fn answer(
    worker: Rc<Worker>,
    port: Port,
    peer: Rc<Peer>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let answer = match port {
        Port::Admin => admin::answer(&worker, &peer, request).await,
        Port::Public => public::answer(&worker, &request).await,
    };
    Ok(answer.unwrap_or_else(Reply::from))
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

/// A client's TLS stream, which is reset when it is dropped before it was closed in order: an answer that was cut must
/// not look like one that ended, not even to HTTP/1.0, where the end of the connection is the end of the answer.
#[derive(Debug)]
pub struct ClientStream {
    tls: TlsStream<TcpStream>,
    closed: bool,
}

impl ClientStream {
    fn new(tls: TlsStream<TcpStream>) -> Self {
        Self { tls, closed: false }
    }

    fn certificate(&self) -> Option<PeerCertificate> {
        let chain = self.tls.get_ref().1.peer_certificates()?;
        chain.first().map(PeerCertificate::new)
    }

    fn speaks_h2(&self) -> bool {
        self.tls.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if !self.closed {
            // Where even that fails, the connection is gone already.
            let _ = self.tls.get_ref().0.set_zero_linger();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = std::task::ready!(Pin::new(&mut self.tls).poll_shutdown(cx));
        self.closed = ended.is_ok();
        Poll::Ready(ended)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
