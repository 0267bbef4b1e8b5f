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
    /// Takes over what the environment names, all of which must be wanted: connections to a socket that nobody accepts
    /// from would wait for ever.
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

    /// The one for this address.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(bound, _)| is_for(*bound, address))?;
        Some(self.0.swap_remove(index).1)
    }
}

fn is_for(bound: SocketAddr, wanted: SocketAddr) -> bool {
    // On a machine without IPv6, systemd takes "every address" for every IPv4 address, as we do.
    let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()));
    let is_every_address = wanted.is_ipv6() && wanted.ip().is_unspecified();
    bound == wanted || (bound == fallback && is_every_address && !super::has_ipv6())
}
