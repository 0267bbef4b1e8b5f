//! Bind or inherit, and accept.

mod inherited;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use thiserror::Error;

pub use self::inherited::{InheritError, Inherited};
use crate::connection;
use crate::limits::Reason;
use crate::net::{self, Port};
use crate::worker::Worker;

/// Handshakes that may wait for their turn.
const BACKLOG: i32 = 4096;
/// After an error that is ours (no file descriptors left), so that the loop is not a busy one.
const PAUSE: Duration = Duration::from_millis(500);
/// The same on the admin port: what becomes free is for admins first.
const SHORT_PAUSE: Duration = Duration::from_millis(50);
/// The most that the kernel holds of answers that were never sent yet, in bytes, on each connection of the public port. What
/// a client has taken is known only to within about half of this: without it, the kernel takes megabytes at once and then
/// nothing for minutes, and a slow client looks like one that has stopped.
const UNSENT: u32 = 128 << 10;

/// Linux's errno of a machine without IPv6; the standard library has no name for it.
const EAFNOSUPPORT: i32 = 97;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; {}", remedy(source))]
pub struct BindError {
    table: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// The key that is to blame.
    pub fn key(&self) -> String {
        format!("{}.listen", self.table)
    }

    /// Whether somebody else has the address.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    port: Port,
    socket: TcpListener,
}

impl Listener {
    /// Binds every address of a port, but for those that are bound already.
    pub fn open(port: Port, addresses: &[SocketAddr], inherited: &mut Inherited) -> Result<Vec<Self>, BindError> {
        let open = |address: &SocketAddr| {
            if let Some(socket) = inherited.take(*address) {
                return Ok(Self::new(port, socket));
            }
            Ok(Self::new(port, bind_among(port.name(), *address, addresses)?))
        };
        addresses.iter().map(open).collect()
    }

    fn new(port: Port, socket: TcpListener) -> Self {
        // Connections inherit it. Where it cannot be had, slow clients are judged less exactly.
        if port == Port::Public
            && let Err(error) = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT)
        {
            tracing::debug!(%error, "the kernel does not bound what it holds unsent");
        }
        Self { port, socket }
    }

    /// The address that was bound, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The port it is for.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The same socket once more, for another worker: whoever is free accepts.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            port: self.port,
            socket: self.socket.try_clone()?,
        })
    }

    /// Accepts until the worker drains.
    pub async fn accept(self, worker: Rc<Worker>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket)?;
        let mut draining = std::pin::pin!(worker.draining());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    // An IPv4 client of an IPv6 socket is an IPv4 client.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    if worker.live().entrance(self.port).proxies.contain(address.ip()) {
                        let Some(place) = worker.expect_client(self.port, address.ip()) else {
                            net::reset(tcp);
                            continue;
                        };
                        let (port, served) = (self.port, Rc::clone(&worker));
                        worker.spawn(connection::welcome_behind(served, port, tcp, address, place));
                        continue;
                    }
                    // Before anything else is done with it: in a crowd, many come before any task has its turn.
                    match worker.admit(self.port, address.ip()) {
                        Some(place) => {
                            let displaces = self.port == Port::Admin || place.has_displaced();
                            worker.spawn(connection::welcome(Rc::clone(&worker), self.port, tcp, address, place));
                            // Those whom it displaces have to go before the next one comes.
                            if displaces {
                                tokio::task::yield_now().await;
                            }
                        }
                        None => net::reset(tcp),
                    }
                }
                Err(error) if is_the_clients(&error) => tracing::debug!(%error, "a client left before it was accepted"),
                Err(error) => {
                    if worker.limiter().count(Reason::Descriptors) {
                        tracing::error!(
                            "cannot accept connections for the moment: {error}; raise LimitNOFILE= (systemd) or `ulimit -n`, or \
                             lower limits.connections. No more of this is told until a minute has gone by without it"
                        );
                    }
                    tokio::time::sleep(match self.port {
                        Port::Admin => SHORT_PAUSE,
                        Port::Public => PAUSE,
                    })
                    .await;
                }
            }
        }
    }
}

/// Binds every address of a table's `listen`.
pub fn bind(table: &'static str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let bind = |address: &SocketAddr| bind_among(table, *address, addresses);
    addresses.iter().map(bind).collect()
}

fn bind_among(table: &'static str, address: SocketAddr, addresses: &[SocketAddr]) -> Result<TcpListener, BindError> {
    // Next to an IPv4 address of the same port, an IPv6 one must not take IPv4 as well.
    let only_v6 = addresses
        .iter()
        .any(|other| other.is_ipv4() && other.port() == address.port());
    bind_one(address, only_v6).map_err(|source| BindError { table, address, source })
}

fn has_ipv6() -> bool {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None);
    socket.map_or_else(|error| error.raw_os_error() != Some(EAFNOSUPPORT), |_| true)
}

fn bind_one(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    match listen(address, only_v6) {
        // A machine without IPv6: "every address" then means every IPv4 address.
        Err(error)
            if error.raw_os_error() == Some(EAFNOSUPPORT) && address.is_ipv6() && address.ip().is_unspecified() =>
        {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), false)
        }
        bound => bound,
    }
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // So that a restart need not wait for the old connections' last packets.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "something listens there already, a gateway perhaps (`ss -ltnp` names it): stop it or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address (`ip address` lists them)",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root, CAP_NET_BIND_SERVICE, or systemd's incus-gate.socket"
        }
        _ => "choose another address",
    }
}
