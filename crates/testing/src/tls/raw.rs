//! A single connection, read one TLS record at a time.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion};

use super::{End, PATIENCE, TlsClient};

/// A connection.
pub struct Raw {
    tls: ClientConnection,
    tcp: TcpStream,
    /// Bytes from TCP that do not yet form a complete TLS record.
    cipher: Vec<u8>,
    /// Decrypted bytes that have not been consumed yet.
    plain: Vec<u8>,
    /// Whether close_notify has been received.
    closed: bool,
    /// Whether early data was possible.
    permits_early_data: bool,
    /// The timeout of a read.
    pub patience: Duration,
}

impl Raw {
    pub(super) fn open(client: &TlsClient, address: SocketAddr) -> Result<Self, End> {
        Self::over(client, TcpStream::connect(address)?, address)
    }

    pub(super) fn over(client: &TlsClient, tcp: TcpStream, address: SocketAddr) -> Result<Self, End> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::from(address.ip());
        let mut raw = Self {
            tls: ClientConnection::new(Arc::new(client.config.clone()), name).map_err(End::Tls)?,
            tcp,
            cipher: Vec::new(),
            plain: Vec::new(),
            closed: false,
            permits_early_data: false,
            patience: PATIENCE,
        };
        raw.permits_early_data = raw.tls.early_data().is_some();
        while raw.tls.is_handshaking() {
            raw.flush()?;
            if raw.tls.is_handshaking() {
                raw.take_record()?;
            }
        }
        raw.flush()?;
        Ok(raw)
    }

    /// Returns whether the session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns whether the session to be resumed permits early data (0-RTT).
    pub fn permits_early_data(&self) -> bool {
        self.permits_early_data
    }

    /// Returns the key exchange group, and whether the server requested a key share with a HelloRetryRequest.
    pub fn key_exchange(&self) -> (NamedGroup, bool) {
        let group = self.tls.negotiated_key_exchange_group();
        let was_asked = self.tls.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
        (group.expect("a full handshake has exchanged keys").name(), was_asked)
    }

    /// Returns the negotiated TLS version.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    /// Returns the negotiated ALPN protocol.
    pub fn protocol(&self) -> Option<String> {
        self.tls
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the server's certificate.
    pub fn server_certificate(&self) -> CertificateDer<'static> {
        let chain = self.tls.peer_certificates().expect("a server has a certificate");
        chain[0].clone().into_owned()
    }

    /// Returns the local TCP socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), End> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let taken = self.tls.writer().write(rest)?;
            rest = &rest[taken..];
            self.flush()?;
        }
        Ok(())
    }

    /// Sends `chunk` repeatedly, up to `limit` bytes, until the peer accepts none for `patience`. Returns the number of
    /// accepted bytes; `limit` means that the peer never stopped reading.
    pub fn send_until_stopped(&mut self, chunk: &[u8], limit: u64, patience: Duration) -> Result<u64, End> {
        self.tcp.set_write_timeout(Some(patience))?;
        let mut sent = 0;
        while sent < limit {
            match self.send(chunk) {
                Ok(()) => sent += chunk.len() as u64,
                Err(End::Silence) => break,
                Err(end) => return Err(end),
            }
        }
        self.tcp.set_write_timeout(Some(PATIENCE))?;
        Ok(sent)
    }

    /// Closes the sending direction, with TLS close_notify and a TCP FIN.
    pub fn finish(&mut self) -> Result<(), End> {
        self.tls.send_close_notify();
        self.flush()?;
        self.tcp.shutdown(Shutdown::Write)?;
        Ok(())
    }

    /// Closes the connection with a TCP reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.tcp)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket takes SO_LINGER");
    }

    /// Returns the content of the next TLS record with data, or earlier data that has not been consumed.
    pub fn read_record(&mut self) -> Result<Vec<u8>, End> {
        let deadline = Instant::now() + self.patience;
        while self.plain.is_empty() {
            self.take_record_by(deadline)?;
        }
        Ok(std::mem::take(&mut self.plain))
    }

    /// Reads exactly this many bytes, from any number of records.
    pub fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            bytes.extend(self.read_record()?);
        }
        let rest = bytes.split_off(count);
        self.unread(rest);
        Ok(bytes)
    }

    /// Reads everything until the stream ends. Returns the bytes and the way it ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        loop {
            match self.read_record() {
                Ok(more) => bytes.extend(more),
                Err(end) => return (bytes, end),
            }
        }
    }

    /// Waits for the end of the stream, and discards the data before it.
    pub fn end(&mut self) -> End {
        self.read_to_end().1
    }

    /// Puts bytes back that belong to the next read.
    pub(super) fn unread(&mut self, bytes: Vec<u8>) {
        let later = std::mem::replace(&mut self.plain, bytes);
        self.plain.extend(later);
    }

    fn flush(&mut self) -> Result<(), End> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp)?;
        }
        Ok(())
    }

    fn take_record(&mut self) -> Result<(), End> {
        self.take_record_by(Instant::now() + self.patience)
    }

    /// Processes one complete record, never two, so that data in one record can be told from data in two.
    fn take_record_by(&mut self, deadline: Instant) -> Result<(), End> {
        if self.closed {
            return Err(End::CloseNotify);
        }
        let record = self.next_record(deadline)?;
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest)?;
            let processed = self.tls.process_new_packets();
            let mut part = [0; 16 << 10];
            loop {
                match self.tls.reader().read(&mut part) {
                    Ok(0) => {
                        self.closed = true;
                        break;
                    }
                    Ok(count) => self.plain.extend_from_slice(&part[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if let Err(error) = processed {
                // Sends the alert, so that the server does not wait for it. The connection may already be closed.
                let _ = self.flush();
                return Err(End::Tls(error));
            }
        }
        Ok(())
    }

    fn next_record(&mut self, deadline: Instant) -> Result<Vec<u8>, End> {
        const HEADER: usize = 5;
        let mut part = [0; 18 << 10];
        loop {
            if let Some([_, _, _, high, low]) = self.cipher.first_chunk::<HEADER>() {
                let length = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
                if self.cipher.len() >= length {
                    let later = self.cipher.split_off(length);
                    return Ok(std::mem::replace(&mut self.cipher, later));
                }
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
                .ok_or(End::Silence)?;
            self.tcp.set_read_timeout(Some(left))?;
            match self.tcp.read(&mut part) {
                Ok(0) => return Err(End::Cut),
                Ok(count) => self.cipher.extend_from_slice(&part[..count]),
                // A read with a timeout is not restarted after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
