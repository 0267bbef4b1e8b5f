//! The client side of a connection: TLS as Incus's clients use it, and HTTP/1.1 or HTTP/2 over it.
//!
//! It is optimized for low cost, because a load generator slower than the proxy would measure itself: it does not verify the
//! server's signature. [`verify`](crate::verify) checks the responses once, before the measurements.

mod upload;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use self::upload::Upload;
use crate::Result;
use testing::certificates::Certificate;
use testing::tls::trust::AcceptAnyCertificate;

/// Concurrent handshakes when many connections are opened.
const CONNECTING: usize = 16;

/// The TCP payload of a 1,500-byte packet.
const SEGMENT: u32 = 1_448;

/// The client's cipher preference.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Cipher {
    /// The preference of Go and browsers on CPUs with AES instructions: AES-128, then AES-256, then ChaCha20.
    #[default]
    AsGo,
    /// The preference of clients on CPUs without AES instructions.
    ChaCha20,
}

/// The settings of a client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
    h2: bool,
    resuming: bool,
}

/// The options of [`Client::new`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner<'a> {
    pub(crate) cipher: Cipher,
    pub(crate) h2: bool,
    /// Whether to offer a post-quantum key exchange.
    pub(crate) post_quantum: bool,
    pub(crate) presenting: Option<&'a Certificate>,
    pub(crate) resuming: bool,
}

impl Client {
    pub(crate) fn new(manner: Manner<'_>) -> Result<Self> {
        use aws_lc_rs::cipher_suite::{
            TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
        };
        use aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
        let provider = CryptoProvider {
            cipher_suites: match manner.cipher {
                Cipher::AsGo => vec![
                    TLS13_AES_128_GCM_SHA256,
                    TLS13_AES_256_GCM_SHA384,
                    TLS13_CHACHA20_POLY1305_SHA256,
                ],
                Cipher::ChaCha20 => vec![TLS13_CHACHA20_POLY1305_SHA256],
            },
            // Debian's Incus was built before Go supported X25519MLKEM768, and neither does its OpenSSL.
            kx_groups: match manner.post_quantum {
                true => vec![X25519MLKEM768, X25519],
                false => vec![X25519],
            },
            ..aws_lc_rs::default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate::without_key()));
        let mut tls = match manner.presenting {
            Some(presented) => {
                let key = PrivateKeyDer::from_pem_file(&presented.key)?;
                config.with_client_auth_cert(vec![presented.der()], key)?
            }
            None => config.with_no_client_auth(),
        };
        if manner.h2 {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        if !manner.resuming {
            tls.resumption = Resumption::disabled();
        }
        Ok(Self {
            tls: Arc::new(tls),
            h2: manner.h2,
            resuming: manner.resuming,
        })
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.h2
    }

    pub(crate) fn is_resuming(&self) -> bool {
        self.resuming
    }

    /// Connects and completes the handshake.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<Connection> {
        let tls = self.connect_tls(address).await?;
        let is_resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let sender = match self.h2 {
            true => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
                tokio::spawn(driver);
                Sender::Http2(sender)
            }
            false => {
                let (sender, driver) = http1::handshake(TokioIo::new(tls)).await?;
                tokio::spawn(driver);
                Sender::Http1(sender)
            }
        };
        Ok(Connection { sender, is_resumed })
    }

    /// Opens `count` connections, a few at a time, so that neither side waits for the other.
    pub(crate) async fn connect_many(&self, address: SocketAddr, count: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        let mut under_way = JoinSet::new();
        for _ in 0..count {
            if under_way.len() == CONNECTING {
                connections.extend(under_way.join_next().await.transpose()?.transpose()?);
            }
            let client = self.clone();
            under_way.spawn(async move { client.connect(address).await });
        }
        while let Some(connection) = under_way.join_next().await {
            connections.push(connection??);
        }
        Ok(connections)
    }

    /// Opens a TLS connection without HTTP.
    pub(crate) async fn connect_tls(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        self.shake_hands(tcp).await
    }

    /// Like [`Self::connect_tls`], with properties of a remote client: Ethernet-sized segments, because the kernel accounts its
    /// buffers by segment, and a limited buffer for data that the client does not read.
    pub(crate) async fn connect_tls_from_afar(
        &self,
        address: SocketAddr,
        window: usize,
    ) -> Result<TlsStream<TcpStream>> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_tcp_mss(SEGMENT)?;
        socket.set_recv_buffer_size(window)?;
        socket.set_nonblocking(true)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        self.shake_hands(socket.connect(address).await?).await
    }

    async fn shake_hands(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
    pub(crate) is_resumed: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

impl Connection {
    /// Sends a request when the connection is idle, and reads the head of the response.
    pub(crate) async fn send(&mut self, request: Request<Upload>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Returns another sender for the same connection; `None` for HTTP/1.1, which has no concurrent requests.
    pub(crate) fn another(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            is_resumed: self.is_resumed,
        })
    }
}
