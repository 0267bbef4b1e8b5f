//! Options of TCP connections, to clients and to Incus.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Small answers leave at once, and a peer that has vanished is noticed within two minutes though a tunnel may be silent
/// for hours.
pub(crate) fn set_tcp_options(tcp: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    // A connection that is gone already says so at the first read.
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

/// Has done with a connection at once, without keeping anything of it in the kernel.
pub(crate) fn reset(tcp: TcpStream) {
    // Where even that fails, the connection is gone already.
    let _ = tcp.set_zero_linger();
}
