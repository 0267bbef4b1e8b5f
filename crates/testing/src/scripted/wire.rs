//! The connection from which a script reads and to which it writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::tls::PATIENCE;
use super::{Request, Shared};

/// What happens to a connection after a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed cleanly, with TLS close_notify.
    Close,
    /// TCP is closed cleanly, without TLS close_notify.
    Cut,
    /// It is reset.
    Reset,
    /// It stays open and idle until the upstream is dropped.
    Hold,
}

/// A connection. Each `write` is one TLS record of up to 16 KiB.
#[derive(Debug)]
pub struct Wire {
    tls: StreamOwned<ServerConnection, TcpStream>,
    shared: Arc<Shared>,
    request: usize,
    body: Framing,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    Length(usize),
}

impl Wire {
    pub(super) fn accept(config: Arc<ServerConfig>, tcp: TcpStream, shared: Arc<Shared>) -> Option<Self> {
        tcp.set_nodelay(true).ok()?;
        let mut tls = StreamOwned::new(ServerConnection::new(config).ok()?, tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).ok()?;
        }
        Some(Self {
            tls,
            shared,
            request: 0,
            body: Framing::Length(0),
        })
    }

    pub(super) fn client_certificate(&self) -> Option<CertificateDer<'static>> {
        let chain = self.tls.conn.peer_certificates()?;
        chain.first().map(|leaf| leaf.clone().into_owned())
    }

    pub(super) fn begin(&mut self, at: usize, request: &Request) {
        self.request = at;
        self.body = match (request.field("transfer-encoding"), request.field("content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().expect("a length")),
            (None, None) => Framing::Length(0),
        };
    }

    pub(super) fn go_on(&mut self, then: Then) -> bool {
        match then {
            Then::KeepAlive => return true,
            Then::Close => {
                self.finish();
                self.drain();
            }
            Then::Cut => {
                self.end_tcp();
                self.drain();
            }
            Then::Reset => {
                let socket = socket2::SockRef::from(&self.tls.sock);
                socket
                    .set_linger(Some(Duration::ZERO))
                    .expect("a socket takes SO_LINGER");
            }
            Then::Hold => self.shared.wait_for_the_end(),
        }
        false
    }

    /// Sends a complete response with a Content-Length.
    pub fn answer(&mut self, status: &str, kind: &str, body: &[u8]) -> Then {
        let length = body.len();
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes)
    }

    /// Sends these bytes. The connection then waits for its next request, unless it is closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        match self.write_all(bytes.as_ref()).and_then(|()| self.flush()) {
            Ok(()) => Then::KeepAlive,
            Err(_) => Then::Cut,
        }
    }

    /// Sends these bytes, and nothing more until the upstream is dropped.
    pub fn hold_after(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        self.send(bytes);
        Then::Hold
    }

    /// Waits until the gateway closes the connection, or sends something. Returns `false` after the timeout.
    pub fn is_left_within(&mut self, patience: Duration) -> bool {
        self.tls
            .sock
            .set_read_timeout(Some(patience))
            .expect("a socket takes a timeout");
        let read = self.read(&mut [0]);
        self.tls.sock.set_read_timeout(None).expect("a socket takes a timeout");
        !read.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Reads and records the complete request body including its framing. Returns `None` if it is truncated.
    pub fn read_body(&mut self) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        match self.body {
            Framing::Length(length) => content = self.read_recorded(length)?,
            Framing::Chunked => loop {
                let chunk = self.read_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                content.extend(chunk);
            },
        }
        self.body = Framing::Length(0);
        Some(content)
    }

    /// Reads the next chunk of the request body. The last one is empty.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.read_line()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let chunk = self.read_recorded(length)?;
        self.read_line()?;
        Some(chunk)
    }

    /// Echoes received bytes until the client closes the connection, then closes it too. For use after a 101 response.
    pub fn echo(&mut self) -> Then {
        let mut part = [0; 16 << 10];
        loop {
            match self.read(&mut part) {
                Ok(0) => return Then::Close,
                Ok(count) => {
                    if self.send(&part[..count]) != Then::KeepAlive {
                        return Then::Cut;
                    }
                }
                Err(_) => return Then::Cut,
            }
        }
    }

    /// Closes the sending direction, and keeps the receiving one open.
    pub fn finish(&mut self) {
        self.tls.conn.send_close_notify();
        // The peer may have closed the connection.
        let _ = self.tls.flush();
        self.end_tcp();
    }

    fn end_tcp(&self) {
        let _ = self.tls.sock.shutdown(Shutdown::Write);
    }

    /// Reads the remaining input. Closing a socket with unread data resets it, and the data sent last is lost.
    fn drain(&mut self) {
        let mut part = [0; 16 << 10];
        let _ = self.tls.sock.set_read_timeout(Some(PATIENCE));
        while self.tls.sock.read(&mut part).is_ok_and(|count| count > 0) {}
    }

    fn read_recorded(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).ok()?;
        self.shared.record_body(self.request, &bytes);
        Some(bytes)
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.read_recorded(1)?);
        }
        String::from_utf8(line).ok()
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.tls.read(bytes)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.tls.write(bytes)?;
        self.shared.sent.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.flush()
    }
}
