//! One connection to Incus: TCP, TLS with our certificate, HTTP/1.1.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Error;
use super::request::RequestBody;
use super::target::Target;
use crate::upgraded_io::UpgradedIo;
use crate::{proxy_protocol, socket_options};

/// For TCP and TLS together. A client must have its answer within five seconds when Incus is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_HEADERS: usize = 256;
/// The most that the head of an answer may be, in bytes, and the most that is read of a body at once: hyper has one limit
/// for both, and what is read waits in memory for a client that does not.
const MAX_READ: usize = 64 << 10;

type Stream = TlsStream<TcpStream>;

/// The stream under hyper. While it is idle, whatever arrives on it is an error: an answer that nobody has asked for would
/// be taken for the next request's.
///
/// tokio reads a socket only once epoll has reported it. What has arrived since epoll was asked last is in the kernel alone,
/// so that has to be asked too.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    is_idle: Rc<Cell<bool>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() && self.is_idle.get() && has_arrived(self.stream.get_ref().0) {
            return Poll::Ready(Err(io::Error::other("something arrived on an idle connection")));
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A request begins.
        self.is_idle.set(false);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    // Without these, hyper copies what it writes into one buffer.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_idle.set(false);
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Whether the kernel has bytes, an end or an error of this socket.
fn has_arrived(socket: &TcpStream) -> bool {
    let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A connection on which one request at a time is under way. It stands still unless somebody drives it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// Boxed, for the connection goes from hand to hand.
    driver: Box<http1::Connection<TokioIo<Wire>, RequestBody>>,
    /// Whether the next request is still to be written; see [`Wire`].
    is_idle: Rc<Cell<bool>>,
    /// Whose requests it may carry, where Incus has been told.
    client: Option<IpAddr>,
    ended: bool,
}

/// Incus's end of a tunnel.
pub type Tunnel = UpgradedIo<TunnelStream>;

/// What a connection has become after 101. Unless we have ended in order it is reset when it goes, though it be with the
/// process: Go takes an end without a farewell for one in order, if it comes between two records.
#[derive(Debug)]
pub struct TunnelStream(Stream);

impl TunnelStream {
    fn new(stream: Stream) -> Self {
        // Where this fails, the connection is gone already.
        let _ = stream.get_ref().0.set_zero_linger();
        Self(stream)
    }
}

impl Connection {
    /// For a client, or for ourselves, which matters only if Incus is told.
    pub(super) async fn open(target: &Target, client: Option<SocketAddr>) -> Result<Self, Error> {
        let stream = timeout(CONNECT_TIMEOUT, connect(target, client))
            .await
            .map_err(|_| Error::Timeout(CONNECT_TIMEOUT))??;
        let is_idle = Rc::<Cell<bool>>::default();
        let wire = Wire {
            stream,
            is_idle: Rc::clone(&is_idle),
        };
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_READ)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(Error::Http)?;
        target.counts().opened.add(1);
        Ok(Self {
            sender,
            driver: Box::new(driver),
            is_idle,
            client: target.proxied_addr(client),
            ended: false,
        })
    }

    /// Whether Incus takes it for this client's, or for our own.
    pub(super) fn is_for(&self, client: Option<IpAddr>) -> bool {
        self.client == client
    }

    /// Sends a request, and its body for as long as no answer is there; what is left of that goes out while the answer's
    /// body is read.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        });
        answer.await.map_err(|mut failed| SendError {
            unsent: failed.take_message(),
            error: match failed.into_error() {
                // What hyper calls a user's is the body that a client sends through us.
                error if error.is_user() => Error::Client(error),
                error => Error::Http(error),
            },
        })
    }

    /// Reads and writes what can be read and written.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        // How it ended is told to whoever waits for an answer or a body.
        if !self.ended && self.driver.poll_without_shutdown(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Whether the connection can carry the next request: the last exchange is over, and nothing has arrived since. Until
    /// the first byte of that request is written, whatever arrives ends the connection.
    pub(super) fn is_fit_for_next(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_idle.set(true);
        self.is_reusable(cx)
    }

    /// Whether the last exchange is over on both sides and Incus has not closed the connection.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// After 101, what the connection has become.
    pub(super) async fn into_tunnel(mut self) -> Tunnel {
        poll_fn(|cx| {
            self.drive(cx);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.driver.into_parts();
        UpgradedIo {
            read_ahead: parts.read_buf,
            stream: TunnelStream::new(parts.io.into_inner().stream),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_shutdown(cx))?;
        // What is still on its way may take its time.
        let _ = SockRef::from(self.0.get_ref().0).set_linger(None);
        Poll::Ready(Ok(()))
    }
}

/// A request that failed, and what is left of it.
pub(super) struct SendError {
    /// The request as it was, if no byte of it went out.
    pub(super) unsent: Option<Request<RequestBody>>,
    pub(super) error: Error,
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self { unsent: None, error }
    }
}

async fn connect(target: &Target, client: Option<SocketAddr>) -> Result<Stream, Error> {
    let unreachable = |source| Error::Connect {
        address: target.address(),
        source,
    };
    let mut tcp = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(unreachable)?;
    socket_options::set_tcp_options(&tcp);
    let mut announced = None;
    if target.proxy_protocol {
        proxy_protocol::announce(&mut tcp, client).await.map_err(unreachable)?;
        announced = Some(tcp.local_addr().map_err(unreachable)?.ip());
    }
    TlsConnector::from(Arc::clone(&target.tls))
        .connect(target.server_name.clone(), tcp)
        .await
        .map_err(|source| {
            let address = target.address();
            match announced {
                _ if is_wrong_pin(&source) => Error::NotPinned { address },
                None if is_no_tls(&source) => Error::NoTls { address },
                Some(gateway) => Error::NoProxy {
                    address,
                    gateway,
                    source,
                },
                None => Error::Tls { address, source },
            }
        })
}

fn is_wrong_pin(error: &io::Error) -> bool {
    matches!(
        of_tls(error),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure
        ))
    )
}

fn is_no_tls(error: &io::Error) -> bool {
    matches!(of_tls(error), Some(rustls::Error::InvalidMessage(_)))
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
