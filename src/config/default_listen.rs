//! The addresses where the gateway listens if its configuration names none, as the units of systemd have them too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `public.listen`
pub const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8554);
/// `admin.listen`
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8555);
