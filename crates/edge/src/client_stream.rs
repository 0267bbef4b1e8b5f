//! The stream of a client after its TLS handshake.

pub mod input_limit;
mod limited_tcp;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ProtocolVersion;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use self::input_limit::InputLimit;
pub(crate) use self::limited_tcp::LimitedTcp;
use crate::admission::ConnectionPermit;

/// What TLS holds of an answer that its client does not read, in bytes.
const MAX_UNSENT: usize = 32 << 10;

/// A client's TLS stream, which is reset when it ends before it was closed in order, though it be with the process: an answer
/// that was cut must not look like one that ended, not even to HTTP/1.0, where the end of the connection is the end of the
/// answer.
#[derive(Debug)]
pub struct ClientStream {
    tls: TlsStream<LimitedTcp>,
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
    /// Takes over after the handshake. `input` limits how fast a stranger's bytes are read.
    pub(crate) fn new(
        mut tls: TlsStream<LimitedTcp>,
        permit: ConnectionPermit,
        heard: Arc<AtomicBool>,
        input: Option<InputLimit>,
    ) -> Self {
        let (tcp, session) = tls.get_mut();
        session.set_buffer_limit(Some(MAX_UNSENT));
        // If this fails, the connection is closed already.
        let _ = SockRef::from(&*tcp).set_linger(Some(Duration::ZERO));
        tcp.set_input_limit(input);
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
        // Let the kernel deliver what it still buffers.
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
