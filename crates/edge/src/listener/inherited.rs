//! Sockets that systemd binds and passes (`sd_listen_fds(3)`). While the gateway restarts, connections wait in their queues.
//!
//! They are identified by address, which is unique in the configuration. The name does not help, because systemd has one for
//! all sockets of a unit.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use thiserror::Error;

/// Inherited sockets that are not yet taken.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

/// An inherited socket that cannot be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InheritError {
    #[error(
        "systemd passed a socket that is not a TCP socket ({0}); use only ListenStream= with an address and a port in the socket unit"
    )]
    NotTcp(#[from] io::Error),
    #[error(
        "systemd listens on {0} for the gateway, but neither public.listen nor admin.listen has this address; use the same addresses in ListenStream= (`systemctl edit incus-gate.socket`) and proxy.toml"
    )]
    NotWanted(SocketAddr),
}

impl Inherited {
    /// Takes the sockets that the environment passes. Each must be in `wanted`, because connections to a socket that is never
    /// accepted from would wait forever.
    ///
    /// # Errors
    /// Returns the first socket that is not TCP or not wanted.
    pub fn from_environment(wanted: &[SocketAddr]) -> Result<Self, InheritError> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            if let Some(socket) = given.take_tcp_listener(index)? {
                let address = socket.local_addr()?;
                if !wanted.iter().any(|wanted| is_for(address, *wanted)) {
                    return Err(InheritError::NotWanted(address));
                }
                socket.set_nonblocking(true)?;
                sockets.push((address, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// Takes the socket for this address.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(bound, _)| is_for(*bound, address))?;
        Some(self.0.swap_remove(index).1)
    }
}

fn is_for(bound: SocketAddr, wanted: SocketAddr) -> bool {
    // On a machine without IPv6, systemd binds `[::]` as `0.0.0.0`, as the gateway does.
    let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()));
    let is_every_address = wanted.is_ipv6() && wanted.ip().is_unspecified();
    bound == wanted || (bound == fallback && is_every_address && !super::has_ipv6())
}
