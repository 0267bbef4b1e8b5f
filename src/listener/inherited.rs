//! Sockets that systemd has bound and holds (`sd_listen_fds(3)`): while the gateway restarts, connections wait there.
//!
//! They are known by their addresses, of which the configuration has each but once; systemd has but one name for all
//! sockets of a unit.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use thiserror::Error;

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

/// A socket that is of no use.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InheritError {
    #[error(
        "what systemd has handed over is no TCP socket ({0}); its socket unit must have ListenStream= with an address and a port, and nothing else"
    )]
    NotTcp(#[from] io::Error),
    #[error(
        "systemd listens on {0} for the gateway, but neither public.listen nor admin.listen has this address; have ListenStream= (`systemctl edit incus-gate.socket`) and proxy.toml say the same"
    )]
    NotWanted(SocketAddr),
}

impl Inherited {
    /// Takes over what the environment names. Must come before anything else opens a file.
    pub fn from_environment() -> Result<Self, InheritError> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            if let Some(socket) = given.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                sockets.push((socket.local_addr()?, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The one for this address.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        // On a machine without IPv6, systemd takes "every address" for every IPv4 address, as we do.
        let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let is_fallback = |bound: SocketAddr| {
            bound == fallback && address.is_ipv6() && address.ip().is_unspecified() && !super::has_ipv6()
        };
        let is_it = |(bound, _): &(SocketAddr, TcpListener)| *bound == address || is_fallback(*bound);
        let index = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Connections to one that is left would wait for ever.
    pub fn end(self) -> Result<(), InheritError> {
        match self.0.first() {
            Some((address, _)) => Err(InheritError::NotWanted(*address)),
            None => Ok(()),
        }
    }
}
