//! A connection that counts, before and during its TLS handshake.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::drain::drain_deadline;
use super::established::Established;
use super::plain_http;
use crate::admission::ConnectionPermit;
use crate::client_stream::LimitedTcp;
use crate::config::EdgeConfig;
use crate::listener_id::ListenerId;
use crate::metrics::handshake_outcome::HandshakeOutcome;
use crate::service::Listener;
use crate::socket_options;
use crate::worker::Worker;

/// An admitted connection.
#[derive(Debug)]
pub struct Admitted {
    tcp: TcpStream,
    client: SocketAddr,
    permit: ConnectionPermit,
}

impl Admitted {
    pub(super) fn new(tcp: TcpStream, client: SocketAddr, permit: ConnectionPermit) -> Self {
        Self { tcp, client, permit }
    }

    /// Returns whether this connection has evicted another one.
    pub fn has_evicted(&self) -> bool {
        self.permit.has_evicted()
    }

    /// Performs the handshake and spawns a task that serves the connection. A separate task does not reserve memory for the
    /// handshake's state.
    pub async fn serve(self, worker: Rc<Worker>, listener: Rc<Listener>) {
        socket_options::set_tcp_options(&self.tcp);
        let (port, client, config) = (listener.id(), self.client, worker.config());
        let established = self.handshake(&worker, port, &config).await;
        let ended = established
            .as_ref()
            .map_or_else(HandshakeError::outcome, |_| HandshakeOutcome::Done);
        worker.counts().of(port).handshakes.of(ended).add(1);
        match established {
            Ok(established) => established.serve(worker, listener, config.limits),
            // A client's fault does not deserve a warning.
            Err(why) => tracing::debug!(%port, %client, "{why}"),
        }
    }

    async fn handshake(
        self,
        worker: &Worker,
        listener: ListenerId,
        config: &EdgeConfig,
    ) -> Result<Established, HandshakeError> {
        let Self { tcp, client, permit } = self;
        let handshake = pin!(accept_tls(
            tcp,
            TlsAcceptor::from(config.listener(listener).tls.clone())
        ));
        let time_limit = config.limits.handshake_timeout;
        let handshakes = worker.handshakes();
        tokio::select! {
            biased;
            _ = drain_deadline(worker.shutdown(), pending()) => Err(HandshakeError::Drain),
            () = permit.evicted() => Err(HandshakeError::Evicted),
            completed = handshakes.tls_handshake(listener.policy(), client.ip(), time_limit, handshake) => match completed {
                Some(completed) => completed.map(|tls| Established::new(tls, client, permit)),
                None => Err(HandshakeError::TooSlow),
            },
        }
    }
}

async fn accept_tls(tcp: TcpStream, acceptor: TlsAcceptor) -> Result<TlsStream<LimitedTcp>, HandshakeError> {
    if plain_http::is_spoken(&tcp).await.map_err(HandshakeError::Failed)? {
        plain_http::refuse(tcp).await.map_err(HandshakeError::Failed)?;
        return Err(HandshakeError::PlainHttp);
    }
    let tcp = LimitedTcp::new(tcp);
    acceptor.accept(tcp).await.map_err(HandshakeError::Failed)
}

/// Why a handshake did not complete.
#[derive(Debug, Error)]
enum HandshakeError {
    #[error("evicted during the handshake by a new connection")]
    Evicted,
    #[error("handshake aborted: the gateway is shutting down")]
    Drain,
    #[error("handshake failed: {0}")]
    Failed(io::Error),
    #[error("rejected a plain HTTP request on an HTTPS port")]
    PlainHttp,
    #[error("handshake timed out")]
    TooSlow,
}

impl HandshakeError {
    /// Returns the metrics label.
    fn outcome(&self) -> HandshakeOutcome {
        match self {
            Self::Evicted => HandshakeOutcome::Evicted,
            Self::Drain => HandshakeOutcome::Drain,
            Self::Failed(error) => HandshakeOutcome::failed(error),
            Self::PlainHttp => HandshakeOutcome::PlainHttp,
            Self::TooSlow => HandshakeOutcome::Timeout,
        }
    }
}
