//! One connection of a client: handshake, who it is, then [`serve`] until its end, with an [`answer`] to each request.

mod answer;
mod body;
mod memory;
mod plain_http;
mod serve;
mod streams;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::serve::{Displaced, serve};
use crate::client::Client;
use crate::client::activity::Activity;
use crate::identity::Peer;
use crate::limits::{Place, Unannounced};
use crate::live::Live;
use crate::metrics::handshake::Handshake;
use crate::net::{self, ClientStream, Port};
use crate::proxy_protocol;
use crate::worker::Worker;

/// A drain still serves who was accepted before it, if they ask for something within this time: a restart behind systemd's
/// socket refuses nobody.
const LATECOMERS: Duration = Duration::from_secs(2);

/// Asks a proxy whose connection it brings, in the time that a handshake has, and goes on with that client.
pub async fn welcome_behind(
    worker: Rc<Worker>,
    port: Port,
    mut tcp: TcpStream,
    proxy: SocketAddr,
    unannounced: Unannounced,
) {
    let patience = worker.live().limits.handshake;
    let ended = |how| worker.counts().ports.of(port).handshakes.of(how).add(1);
    let announced = tokio::select! {
        biased;
        _ = no_longer_awaited(&worker, std::future::pending()) => return ended(Handshake::Drain),
        announced = timeout(patience, proxy_protocol::read_client(&mut tcp, proxy)) => announced,
    };
    let client = match announced.map_err(io::Error::from).flatten() {
        Ok(client) => client,
        Err(error) => {
            ended(Handshake::ProxyHeader);
            return tracing::debug!(%port, %proxy, %error, "refused");
        }
    };
    drop(unannounced);
    match worker.admit(port, client.ip()) {
        Some(place) => welcome(worker, port, tcp, client, place).await,
        None => net::reset(tcp),
    }
}

/// Does the handshake, and leaves the connection to a task of its own, which has no room for what is over.
pub async fn welcome(worker: Rc<Worker>, port: Port, tcp: TcpStream, address: SocketAddr, mut place: Place) {
    net::tune(&tcp);
    let live = worker.live();
    let shaken = shake_hands(&worker, &live, port, tcp, address, &place).await;
    let ended = shaken.as_ref().map_or_else(Unwelcome::handshake, |_| Handshake::Done);
    worker.counts().ports.of(port).handshakes.of(ended).add(1);
    let tls = match shaken {
        Ok(tls) => tls,
        // A client's fault is not our warning.
        Err(why) => return tracing::debug!(%port, client = %address, "{why}"),
    };
    let peer = Peer {
        address,
        certificate: net::certificate(&tls),
    };
    // By what is in force now: a reload may have come in the meantime.
    let is_admin = worker
        .live()
        .admins
        .judge(peer.certificate.as_ref(), SystemTime::now())
        .is_ok();
    if is_admin && !place.prove() {
        return;
    }
    let displaced = (!place.is_safe()).then(|| Box::pin(place.displaced()) as Displaced);
    let (activity, counted_by) = (Rc::new(Activity::new(place.stranger().cloned())), place.address());
    let stream = ClientStream::new(tls, place, activity.heard());
    let reader = (port == Port::Public).then(|| worker.limiter().reader(address.ip()));
    let client = Rc::new(Client {
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
    serve(client, stream, live.limits, displaced);
}

async fn shake_hands(
    worker: &Worker,
    live: &Live,
    port: Port,
    tcp: TcpStream,
    address: SocketAddr,
    place: &Place,
) -> Result<TlsStream<TcpStream>, Unwelcome> {
    let handshakes = worker.handshakes();
    let handshake = pin!(async {
        if plain_http::is_spoken(&tcp).await.map_err(Unwelcome::Failed)? {
            plain_http::refuse(tcp).await.map_err(Unwelcome::Failed)?;
            return Err(Unwelcome::PlainHttp);
        }
        let acceptor = TlsAcceptor::from(live.entrance(port).tls.clone());
        acceptor.accept(tcp).await.map_err(Unwelcome::Failed)
    });
    tokio::select! {
        biased;
        _ = no_longer_awaited(worker, std::future::pending()) => Err(Unwelcome::Drain),
        () = place.displaced() => Err(Unwelcome::Displaced),
        shaken = handshakes.shake_hands(port, address.ip(), live.limits.handshake, handshake) => match shaken {
            Some(shaken) => shaken,
            None => Err(Unwelcome::TooSlow),
        },
    }
}

/// Why there was no handshake.
#[derive(Debug, Error)]
enum Unwelcome {
    #[error("made room for others in its handshake")]
    Displaced,
    #[error("came too late for a handshake: the gateway ends")]
    Drain,
    #[error("handshake failed: {0}")]
    Failed(io::Error),
    #[error("spoke plain HTTP to a port for HTTPS, and was told so")]
    PlainHttp,
    #[error("handshake took too long")]
    TooSlow,
}

impl Unwelcome {
    /// What it counts as.
    fn handshake(&self) -> Handshake {
        match self {
            Self::Displaced => Handshake::Displaced,
            Self::Drain => Handshake::Drain,
            Self::Failed(error) => Handshake::failed(error),
            Self::PlainHttp => Handshake::PlainHttp,
            Self::TooSlow => Handshake::Timeout,
        }
    }
}

/// Completes in a drain, at once for who has begun, and a little later for who has not; tells which of them it is.
async fn no_longer_awaited(worker: &Worker, begun: impl Future<Output = ()>) -> bool {
    worker.draining().await;
    tokio::select! {
        () = begun => true,
        // Boxed, for only a drain needs it, and every connection would have room for it.
        () = Box::pin(sleep(LATECOMERS)) => false,
    }
}
