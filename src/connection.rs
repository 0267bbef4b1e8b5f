//! One client connection: the TLS handshake, client authentication, then [`serve`] until the connection ends, with
//! [`service`] for each request.

pub mod context;
pub mod download_permit;
mod drain;
mod h2_executor;
mod memory;
mod plain_http;
mod response_body;
mod serve;
mod service;
pub mod timeouts;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::SystemTime;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::drain::drain_deadline;
use self::serve::{Evicted, serve};
use crate::admission::{ConnectionPermit, PendingProxyPermit};
use crate::client_stream::ClientStream;
use crate::client_stream::input_limit::InputLimit;
use crate::connection::context::ConnectionContext;
use crate::connection::timeouts::ConnectionActivity;
use crate::identity::{Peer, PeerCertificate};
use crate::metrics::handshake_outcome::HandshakeOutcome;
use crate::port::Port;
use crate::proxy_protocol;
use crate::socket_options;
use crate::state::State;
use crate::worker::Worker;

/// Reads the PROXY header within `limits.handshake_timeout`, then continues with the client that it names.
pub async fn accept_proxied(
    worker: Rc<Worker>,
    port: Port,
    mut tcp: TcpStream,
    proxy: SocketAddr,
    unannounced: PendingProxyPermit,
) {
    let patience = worker.state().limits.handshake_timeout;
    let ended = |how| worker.counts().ports.of(port).handshakes.of(how).add(1);
    let announced = tokio::select! {
        biased;
        _ = drain_deadline(&worker, std::future::pending()) => return ended(HandshakeOutcome::Drain),
        announced = timeout(patience, proxy_protocol::read_client(&mut tcp, proxy)) => announced,
    };
    let client = match announced.map_err(io::Error::from).flatten() {
        Ok(client) => client,
        Err(error) => {
            ended(HandshakeOutcome::ProxyHeader);
            return tracing::debug!(%port, %proxy, %error, "refused");
        }
    };
    drop(unannounced);
    match worker.admit(port, client.ip()) {
        Some(permit) => handle_connection(worker, port, tcp, client, permit).await,
        None => socket_options::reset(tcp),
    }
}

/// Performs the handshake and spawns a task that serves the connection. A separate task does not reserve memory for the
/// handshake's state.
pub async fn handle_connection(
    worker: Rc<Worker>,
    port: Port,
    tcp: TcpStream,
    address: SocketAddr,
    mut permit: ConnectionPermit,
) {
    socket_options::set_tcp_options(&tcp);
    let state = worker.state();
    let shaken = tls_handshake(&worker, &state, port, tcp, address, &permit).await;
    let ended = shaken
        .as_ref()
        .map_or_else(HandshakeError::handshake, |_| HandshakeOutcome::Done);
    worker.counts().ports.of(port).handshakes.of(ended).add(1);
    let tls = match shaken {
        Ok(tls) => tls,
        // A client's fault does not deserve a warning.
        Err(why) => return tracing::debug!(%port, client = %address, "{why}"),
    };
    let peer = Peer {
        address,
        certificate: presented_certificate(&tls),
    };
    // Uses the current configuration: a reload may have replaced it during the handshake.
    let is_admin = worker
        .state()
        .admins
        .judge(peer.certificate.as_ref(), SystemTime::now())
        .is_ok();
    if is_admin && !permit.promote() {
        return;
    }
    let evicted = (permit.is_evictable()).then(|| Box::pin(permit.evicted()) as Evicted);
    let (activity, counted_by) = (
        Rc::new(ConnectionActivity::new(permit.stranger().cloned())),
        permit.address(),
    );
    let input = (!is_admin)
        .then(|| counted_by.clone().or_else(|| worker.limiter().bucket(address.ip())))
        .flatten();
    let input =
        input.map(|bucket| InputLimit::new(bucket, state.limits.requests_per_second, activity.is_input_unlimited()));
    let stream = ClientStream::new(tls, permit, activity.heard(), input);
    let reader = (port == Port::Public).then(|| worker.limiter().reader(address.ip()));
    let client = Rc::new(ConnectionContext {
        worker,
        port,
        peer,
        tls: stream.version(),
        begun: Notify::new(),
        cut: Cell::new(None),
        ending: stream.ending(),
        counted_by,
        reader,
        is_downloading: Cell::new(false),
        activity,
    });
    serve(client, stream, state.limits, evicted);
}

/// Returns the leaf certificate that the client presented; the handshake has proved that it holds the key.
fn presented_certificate(tls: &TlsStream<TcpStream>) -> Option<PeerCertificate> {
    let chain = tls.get_ref().1.peer_certificates()?;
    chain.first().map(PeerCertificate::new)
}

async fn tls_handshake(
    worker: &Worker,
    state: &State,
    port: Port,
    tcp: TcpStream,
    address: SocketAddr,
    permit: &ConnectionPermit,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let handshakes = worker.handshakes();
    let handshake = pin!(async {
        if plain_http::is_spoken(&tcp).await.map_err(HandshakeError::Failed)? {
            plain_http::refuse(tcp).await.map_err(HandshakeError::Failed)?;
            return Err(HandshakeError::PlainHttp);
        }
        let acceptor = TlsAcceptor::from(state.listener(port).tls.clone());
        acceptor.accept(tcp).await.map_err(HandshakeError::Failed)
    });
    tokio::select! {
        biased;
        _ = drain_deadline(worker, std::future::pending()) => Err(HandshakeError::Drain),
        () = permit.evicted() => Err(HandshakeError::Evicted),
        shaken = handshakes.tls_handshake(port, address.ip(), state.limits.handshake_timeout, handshake) => match shaken {
            Some(shaken) => shaken,
            None => Err(HandshakeError::TooSlow),
        },
    }
}

/// Why a handshake did not complete.
#[derive(Debug, Error)]
enum HandshakeError {
    #[error("made room for others in its handshake")]
    Evicted,
    #[error("came too late for a handshake: the gateway ends")]
    Drain,
    #[error("handshake failed: {0}")]
    Failed(io::Error),
    #[error("spoke plain HTTP to a port for HTTPS, and was told so")]
    PlainHttp,
    #[error("handshake took too long")]
    TooSlow,
}

impl HandshakeError {
    /// Returns the metrics label.
    fn handshake(&self) -> HandshakeOutcome {
        match self {
            Self::Evicted => HandshakeOutcome::Evicted,
            Self::Drain => HandshakeOutcome::Drain,
            Self::Failed(error) => HandshakeOutcome::failed(error),
            Self::PlainHttp => HandshakeOutcome::PlainHttp,
            Self::TooSlow => HandshakeOutcome::Timeout,
        }
    }
}
