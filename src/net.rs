//! The two ports, what every TCP connection is set to, and the stream that a client's TLS becomes.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustls::ProtocolVersion;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::admission::ConnectionPermit;
use crate::identity::PeerCertificate;

/// What TLS holds of an answer that its client does not read, in bytes.
const MAX_UNSENT: usize = 32 << 10;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// For those who hold the very certificate.
    Admin,
    /// For everybody.
    Public,
}

impl Port {
    /// The table of the configuration that it is from, and what logs and figures call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Public => "public",
        }
    }

    /// Where it listens if nobody says otherwise, as the units of systemd have it too.
    pub fn usual_address(self) -> SocketAddr {
        let number = match self {
            Self::Admin => 8555,
            Self::Public => 8554,
        };
        (Ipv6Addr::UNSPECIFIED, number).into()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Small answers leave at once, and a peer that has vanished is noticed within two minutes though a tunnel may be silent
/// for hours.
pub(crate) fn set_tcp_options(tcp: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    // A connection that is gone already says so at the first read.
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

/// Has done with a connection at once, without keeping anything of it in the kernel.
pub(crate) fn reset(tcp: TcpStream) {
    // Where even that fails, the connection is gone already.
    let _ = tcp.set_zero_linger();
}

/// What a connection has become after 101, on either side of us.
#[derive(Debug)]
pub struct UpgradedIo<S> {
    /// What was read of it already.
    pub read_ahead: Bytes,
    /// The rest.
    pub stream: S,
}

/// The leaf that the client presented, its key proved.
pub(crate) fn certificate(tls: &TlsStream<TcpStream>) -> Option<PeerCertificate> {
    let chain = tls.get_ref().1.peer_certificates()?;
    chain.first().map(PeerCertificate::new)
}

/// A client's TLS stream, which is reset when it ends before it was closed in order, though it be with the process: an answer
/// that was cut must not look like one that ended, not even to HTTP/1.0, where the end of the connection is the end of the
/// answer.
#[derive(Debug)]
pub struct ClientStream {
    tls: TlsStream<TcpStream>,
    ending: CloseMode,
    /// Told when bytes come.
    heard: Arc<AtomicBool>,
    /// Held for as long as there is the stream, whatever it becomes.
    _place: ConnectionPermit,
}

/// Says of a stream that nothing is under way on it, so that it may end in order when it is dropped: a reset would destroy
/// the end of an answer that the kernel still holds for a slow client.
#[derive(Clone, Debug, Default)]
pub struct CloseMode(Arc<AtomicBool>);

impl CloseMode {
    /// Nothing is under way any more.
    pub fn close_gracefully(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl ClientStream {
    /// Takes over after the handshake.
    pub(crate) fn new(mut tls: TlsStream<TcpStream>, permit: ConnectionPermit, heard: Arc<AtomicBool>) -> Self {
        let (tcp, session) = tls.get_mut();
        session.set_buffer_limit(Some(MAX_UNSENT));
        // Where this fails, the connection is gone already.
        let _ = tcp.set_zero_linger();
        Self {
            tls,
            ending: CloseMode::default(),
            heard,
            _place: permit,
        }
    }

    /// For who knows why the stream will be dropped.
    pub fn ending(&self) -> CloseMode {
        self.ending.clone()
    }

    /// What the handshake has settled on.
    pub fn version(&self) -> ProtocolVersion {
        let version = self.tls.get_ref().1.protocol_version();
        version.unwrap_or(ProtocolVersion::Unknown(0))
    }

    /// Whether ALPN chose HTTP/2.
    pub fn speaks_h2(&self) -> bool {
        self.tls.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.ending.0.load(Ordering::Relaxed) {
            let (tcp, session) = self.tls.get_mut();
            let tcp = SockRef::from(&*tcp);
            session.send_close_notify();
            // Where even these fail, the connection is gone already.
            let _ = session.write_tls(&mut &*tcp);
            let _ = tcp.set_linger(None);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tls).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
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
        ready!(Pin::new(&mut self.tls).poll_shutdown(cx))?;
        // What is still on its way may take its time.
        Poll::Ready(SockRef::from(self.tls.get_ref().0).set_linger(None))
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
