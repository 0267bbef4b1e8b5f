//! Binds or inherits the listening sockets.

mod inherited;
pub mod overlap;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, SockRef, Socket, Type};
use thiserror::Error;

pub use self::inherited::{InheritError, Inherited};
use self::overlap::is_only_v6;
use crate::listener_id::{ListenerId, Policy};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Maximum number of unsent response bytes that the kernel buffers on each connection of an open listener. The amount that a
/// client has read is known only to within about half of this. Without the limit, the kernel accepts megabytes at once and
/// then nothing for minutes, and a slow client looks like a stalled one.
const UNSENT: u32 = 128 << 10;

/// Linux's errno for an unsupported address family, on a machine without IPv6. The standard library has no name for it.
const EAFNOSUPPORT: i32 = 97;

/// Failure to listen on an address.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; {}", remedy(source, *address))]
pub struct BindError {
    table: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// Returns the configuration key with the address.
    pub fn key(&self) -> String {
        format!("{}.listen", self.table)
    }

    /// Returns whether another socket uses the address.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: ListenerId,
    socket: TcpListener,
}

impl ListeningSocket {
    /// Binds every address of a listener, except those that are inherited.
    ///
    /// # Errors
    /// Returns the first address that cannot be bound.
    pub fn open(
        listener: ListenerId,
        addresses: &[SocketAddr],
        inherited: &mut Inherited,
    ) -> Result<Vec<Self>, BindError> {
        let open = |address: &SocketAddr| {
            let socket = match inherited.take(*address) {
                Some(socket) => Some(socket),
                None => bind_among(listener.name(), *address, addresses)?,
            };
            Ok(socket.map(|socket| Self::new(listener, socket)))
        };
        addresses.iter().map(open).filter_map(Result::transpose).collect()
    }

    fn new(listener: ListenerId, socket: TcpListener) -> Self {
        // Accepted connections inherit the option. Without it, slow clients are detected less accurately.
        if listener.policy() == Policy::Open
            && let Err(error) = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT)
        {
            tracing::debug!(%error, "cannot limit the unsent data in the kernel's socket buffers");
        }
        Self { listener, socket }
    }

    /// Returns the bound address, with the port that the system chose if 0 was requested.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns the listener that the socket belongs to.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Clones the socket for another worker. Any idle worker accepts the next connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener,
            socket: self.socket.try_clone()?,
        })
    }

    /// Hands the socket to the runtime of a worker.
    pub(crate) fn into_tokio(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.socket)
    }
}

/// Binds every address of a table's `listen`.
///
/// # Errors
/// Returns the first address that cannot be bound.
pub fn bind(table: &'static str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let bind = |address: &SocketAddr| bind_among(table, *address, addresses).transpose();
    addresses.iter().filter_map(bind).collect()
}

fn bind_among(
    table: &'static str,
    address: SocketAddr,
    addresses: &[SocketAddr],
) -> Result<Option<TcpListener>, BindError> {
    let bound = bind_or_fall_back(address, is_only_v6(address, addresses), listen);
    bound.map_err(|source| BindError { table, address, source })
}

/// Returns `None` if there is nothing to bind: `[::]` next to IPv4 addresses on a machine without IPv6.
fn bind_or_fall_back<T>(
    address: SocketAddr,
    only_v6: bool,
    listen: impl Fn(SocketAddr, bool) -> io::Result<T>,
) -> io::Result<Option<T>> {
    match listen(address, only_v6) {
        Err(error) if has_no_family(&error) && is_every_v6(address) => {
            let instead = fallback(address, only_v6).map(|instead| listen(instead, false));
            instead.transpose()
        }
        bound => bound.map(Some),
    }
}

/// Returns the replacement of `[::]` on a machine without IPv6: `0.0.0.0`, unless the table has an IPv4 address with the same
/// port.
fn fallback(every_v6: SocketAddr, only_v6: bool) -> Option<SocketAddr> {
    (!only_v6).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, every_v6.port())))
}

/// Returns a message for each `[::]` of a table that is replaced or skipped because this machine has no IPv6.
pub fn fallbacks(addresses: &[SocketAddr]) -> Vec<String> {
    if has_ipv6() {
        return Vec::new();
    }
    let every_v6 = addresses.iter().filter(|address| is_every_v6(**address));
    let messages = every_v6.map(|address| match fallback(*address, is_only_v6(*address, addresses)) {
        Some(instead) => {
            format!("this machine has no IPv6, so {instead} replaces {address}; write \"{instead}\"")
        }
        None => format!("this machine has no IPv6, so {address} is ignored; remove it"),
    });
    messages.collect()
}

fn is_every_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn has_no_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn has_ipv6() -> bool {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None);
    socket.map_or_else(|error| !has_no_family(&error), |_| true)
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A restart need not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there, perhaps a gateway (`ss -ltnp` shows which); stop it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one that `ip address` lists"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 require root, CAP_NET_BIND_SERVICE, or systemd's incus-gate.socket; choose another port, or use one of these"
        }
        _ if has_no_family(error) && address.is_ipv6() => {
            let instead = match address.ip().is_loopback() {
                true => Ipv4Addr::LOCALHOST,
                false => Ipv4Addr::UNSPECIFIED,
            };
            return format!("this machine has no IPv6; write \"{instead}:{}\"", address.port());
        }
        _ => "choose another address",
    };
    remedy.to_owned()
}

#[cfg(test)]
mod tests {
    use super::overlap::{Overlap, find_overlap};
    use super::*;

    fn addresses(list: &str) -> Vec<SocketAddr> {
        list.split_whitespace()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    /// Compares with the kernel: it can bind addresses that do not overlap, and cannot bind those that do.
    #[test]
    fn overlap_detection_agrees_with_the_kernel() {
        for (one, other, is_overlap) in [
            ("0.0.0.0:P", "127.0.0.1:P", true),
            ("127.0.0.1:P", "0.0.0.0:P", true),
            ("0.0.0.0:P", "0.0.0.0:P", true),
            ("127.0.0.1:P", "127.0.0.2:P", false),
            ("[::]:P", "127.0.0.1:P", true),
            ("127.0.0.1:P", "[::]:P", true),
            ("[::]:P", "0.0.0.0:P", true),
            ("[::]:P", "[::1]:P", true),
            ("[::1]:P", "[::]:P", true),
            ("[::1]:P", "127.0.0.1:P", false),
            ("[::1]:P", "0.0.0.0:P", false),
            ("[::]:P 127.0.0.1:P", "", false),
            ("[::]:P 0.0.0.0:P", "", false),
            ("[::]:P 127.0.0.1:P", "127.0.0.2:P", false),
            ("[::]:P 127.0.0.1:P", "[::]:P", true),
            ("[::]:P 127.0.0.1:P", "[::1]:P", true),
            ("[::]:P 127.0.0.1:P", "0.0.0.0:P", true),
            ("0.0.0.0:P 127.0.0.1:P", "", true),
            ("[::]:P [::1]:P", "", true),
            ("[::]:0 [::]:0", "127.0.0.1:0", false),
        ] {
            // A port that is free on every address; another test may take it in the meantime.
            let free = |_| {
                let any = listen(SocketAddr::from(([0; 16], 0)), false)?;
                let port = any.local_addr()?.port();
                drop(any);
                let tables = [one, other].map(|list| addresses(&list.replace('P', &port.to_string())));
                let overlap = find_overlap(&[&tables[0], &tables[1]]);
                assert_eq!(overlap.is_some(), is_overlap, "{one} and {other}: {overlap:?}");
                let first = bind("public", &tables[0]);
                let second = bind("admin", &tables[1]);
                io::Result::Ok(first.is_ok() && second.is_ok())
            };
            let bound = (0..20).map(free).map(|bound| bound.expect("some port is free"));
            let mut as_predicted = bound.map(|bound| bound != is_overlap);
            match is_overlap {
                true => assert!(as_predicted.all(|it_is| it_is), "{one} and {other} were bound"),
                false => assert!(as_predicted.any(|it_is| it_is), "{one} and {other} were never bound"),
            }
        }
    }

    #[test]
    fn an_overlap_names_both_tables_and_addresses() {
        let tables = [
            addresses("[::]:1"),
            addresses("[::1]:2 [::]:3"),
            addresses("127.0.0.1:3"),
        ];
        let tables: Vec<&[SocketAddr]> = tables.iter().map(Vec::as_slice).collect();
        let expected = Overlap {
            table: 2,
            address: "127.0.0.1:3".parse().expect("an address"),
            other_table: 1,
            other: "[::]:3".parse().expect("an address"),
        };
        assert_eq!(find_overlap(&tables), Some(expected));
    }

    #[test]
    fn without_ipv6_the_wildcard_falls_back_to_ipv4() {
        // Behaves like a kernel without IPv6.
        let bind = |text: &str, only_v6| {
            let listen = |address: SocketAddr, _| match address {
                SocketAddr::V4(address) => Ok(address.to_string()),
                SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(EAFNOSUPPORT)),
            };
            bind_or_fall_back(text.parse().expect("an address"), only_v6, listen).ok()
        };
        assert_eq!(bind("[::]:8554", false), Some(Some("0.0.0.0:8554".to_owned())));
        assert_eq!(
            bind("[::]:8554", true),
            Some(None),
            "the table has IPv4 addresses of its own"
        );
        assert_eq!(bind("127.0.0.1:8554", false), Some(Some("127.0.0.1:8554".to_owned())));
        assert_eq!(
            bind("[::1]:8554", false),
            None,
            "another address than the one that was asked for"
        );
        let error = |address| BindError {
            table: "public",
            address,
            source: io::Error::from_raw_os_error(EAFNOSUPPORT),
        };
        for (address, written) in [
            ("[2001:db8::1]:8554", "\"0.0.0.0:8554\""),
            ("[::1]:8554", "\"127.0.0.1:8554\""),
        ] {
            let message = error(address.parse().expect("an address")).to_string();
            assert!(
                message.ends_with(&format!("this machine has no IPv6; write {written}")),
                "{message}"
            );
        }
    }
}
