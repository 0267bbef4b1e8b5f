//! The TCP connection of a client, below TLS.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::input_limit::InputLimit;

/// A TCP connection whose bytes may be limited. The limit is below TLS, because each TLS record has a cost, even one that
/// contains a single byte or none.
#[derive(Debug)]
pub(crate) struct LimitedTcp {
    tcp: TcpStream,
    input: Option<InputLimit>,
}

impl LimitedTcp {
    /// Takes over for the handshake, which other limits apply to.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, input: None }
    }

    /// Applies this limit from now on.
    pub(super) fn set_input_limit(&mut self, input: Option<InputLimit>) {
        self.input = input;
    }

    fn earn(&mut self, written: &Poll<io::Result<usize>>) {
        if let (Some(input), Poll::Ready(Ok(sent))) = (&mut self.input, written) {
            input.earn(*sent);
        }
    }
}

impl AsFd for LimitedTcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl AsyncRead for LimitedTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, input } = &mut *self;
        let Some(input) = input else {
            return Pin::new(tcp).poll_read(cx, buffer);
        };
        ready!(input.poll(cx));
        let before = buffer.filled().len();
        let read = Pin::new(tcp).poll_read(cx, buffer);
        input.charge(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for LimitedTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.earn(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, parts);
        self.earn(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
