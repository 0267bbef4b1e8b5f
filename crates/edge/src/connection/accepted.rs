//! A connection that a listener has accepted. Nothing has been read of it yet.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admitted::Admitted;
use super::drain::drain_deadline;
use crate::admission::PendingProxyPermit;
use crate::listener_id::ListenerId;
use crate::metrics::handshake_outcome::HandshakeOutcome;
use crate::proxy_protocol;
use crate::service::Listener;
use crate::socket_options;
use crate::worker::Worker;

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    tcp: TcpStream,
    address: SocketAddr,
}

impl Accepted {
    /// Takes an accepted connection with its remote address.
    pub fn new(tcp: TcpStream, address: SocketAddr) -> Self {
        Self {
            tcp,
            // An IPv4 client of an IPv6 socket counts as an IPv4 client.
            address: SocketAddr::new(address.ip().to_canonical(), address.port()),
        }
    }

    /// Returns whether the connection is from a proxy, so that it begins with a PROXY header.
    pub fn is_of_proxy(&self, worker: &Worker, listener: ListenerId) -> bool {
        worker.config().listener(listener).proxies.contain(self.address.ip())
    }

    /// Admits the connection by its address, or resets it.
    pub fn admit(self, worker: &Worker, listener: ListenerId) -> Option<Admitted> {
        let Self { tcp, address } = self;
        match worker.admit(listener, address.ip()) {
            Some(permit) => Some(Admitted::new(tcp, address, permit)),
            None => {
                socket_options::reset(tcp);
                None
            }
        }
    }

    /// Admits the connection of a proxy until its header has arrived, or resets it.
    pub fn admit_proxy(self, worker: &Worker, listener: ListenerId) -> Option<Proxied> {
        let Self { tcp, address } = self;
        match worker.admit_proxy(listener, address.ip()) {
            Some(permit) => Some(Proxied {
                tcp,
                proxy: address,
                permit,
            }),
            None => {
                socket_options::reset(tcp);
                None
            }
        }
    }
}

/// A proxy's connection whose PROXY header has not arrived yet.
#[derive(Debug)]
pub struct Proxied {
    tcp: TcpStream,
    proxy: SocketAddr,
    permit: PendingProxyPermit,
}

impl Proxied {
    /// Reads the PROXY header within `limits.handshake_timeout`, then continues with the client that it names.
    pub async fn serve(self, worker: Rc<Worker>, listener: Rc<Listener>) {
        let Self { mut tcp, proxy, permit } = self;
        let port = listener.id();
        let time_limit = worker.config().limits.handshake_timeout;
        let ended = |how| worker.counts().of(port).handshakes.of(how).add(1);
        let announced = tokio::select! {
            biased;
            _ = drain_deadline(worker.shutdown(), pending()) => return ended(HandshakeOutcome::Drain),
            announced = timeout(time_limit, proxy_protocol::read_client(&mut tcp, proxy)) => announced,
        };
        let client = match announced.map_err(io::Error::from).flatten() {
            Ok(client) => client,
            Err(error) => {
                ended(HandshakeOutcome::ProxyHeader);
                return tracing::debug!(%port, %proxy, %error, "rejected a connection");
            }
        };
        drop(permit);
        let accepted = Accepted { tcp, address: client };
        if let Some(admitted) = accepted.admit(&worker, port) {
            admitted.serve(worker, listener).await;
        }
    }
}
