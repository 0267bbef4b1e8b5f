//! One connection to Incus: TCP, TLS with the gateway's client certificate, HTTP/1.1.

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

/// Timeout for TCP and TLS together. A client must get a response within five seconds when Incus is unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_HEADERS: usize = 256;
/// Maximum size of a response header, and of a single read of a body, in bytes. hyper has one limit for both, and data that
/// was read is held in memory for a client that does not read.
const MAX_READ: usize = 64 << 10;

type Stream = TlsStream<TcpStream>;

/// The stream under hyper. While the connection is idle, any received byte is an error: an unsolicited response would be
/// taken for the response to the next request.
///
/// tokio reads a socket only after epoll has reported it. Only the kernel knows what has arrived since the last epoll call,
/// so the kernel must be asked too.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    is_idle: Rc<Cell<bool>>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() && self.is_idle.get() && has_arrived(self.stream.get_ref().0) {
            return Poll::Ready(Err(io::Error::other("Incus sent data on an idle connection")));
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

    // Without vectored writes, hyper copies what it writes into one buffer.
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

/// Returns whether the kernel has received bytes, a shutdown or an error on this socket.
fn has_arrived(socket: &TcpStream) -> bool {
    let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A connection that carries one request at a time. It makes no progress unless it is driven.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// Boxed, because the connection is moved often.
    driver: Box<http1::Connection<TokioIo<Wire>, RequestBody>>,
    /// Whether the next request has not been written yet; see [`Wire`].
    is_idle: Rc<Cell<bool>>,
    /// The client that Incus was told, whose requests the connection may carry.
    client: Option<IpAddr>,
    ended: bool,
}

/// The tunnel's end at Incus.
pub type Tunnel = UpgradedIo<TunnelStream>;

/// The stream that a connection becomes after 101. It is reset when dropped, even by the end of the process, unless it was
/// shut down gracefully: Go takes a connection closed without `close_notify` for a graceful end, if it is closed between two
/// records.
#[derive(Debug)]
pub struct TunnelStream(Stream);

impl TunnelStream {
    fn new(stream: Stream) -> Self {
        // If this fails, the connection is closed already.
        let _ = stream.get_ref().0.set_zero_linger();
        Self(stream)
    }
}

impl Connection {
    /// Opens a connection for a client or for the gateway itself, which only matters if Incus is told the client's address.
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

    /// Returns whether Incus attributes the connection to this client, or to the gateway itself.
    pub(super) fn is_for(&self, client: Option<IpAddr>) -> bool {
        self.client == client
    }

    /// Sends a request, and its body until a response arrives. The rest of the body is sent while the response's body is
    /// read.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        });
        answer.await.map_err(|mut failed| SendError {
            unsent: failed.take_message(),
            error: match failed.into_error() {
                // A user error in hyper's terms is an error of the body, which comes from the client.
                error if error.is_user() => Error::Client(error),
                error => Error::Http(error),
            },
        })
    }

    /// Reads and writes as much as possible.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        // The waiting response or body reports how it ended.
        if !self.ended && self.driver.poll_without_shutdown(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Returns whether the connection can carry the next request: the last exchange is complete, and nothing has arrived
    /// since. Until the first byte of the next request is written, any received byte ends the connection.
    pub(super) fn is_fit_for_next(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_idle.set(true);
        self.is_reusable(cx)
    }

    /// Returns whether the last exchange is complete on both sides and Incus has not closed the connection.
    pub(super) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// Returns the stream that the connection becomes after 101.
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
        // Let the kernel deliver what it still buffers.
        let _ = SockRef::from(self.0.get_ref().0).set_linger(None);
        Poll::Ready(Ok(()))
    }
}

/// A failed request, and the request itself if it can be sent again.
pub(super) struct SendError {
    /// The unmodified request, if no byte of it was sent.
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
