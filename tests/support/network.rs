//! A network of a test's own: clients have other addresses there than this machine's loopback.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

/// Tells the test that it is in there already.
const INSIDE: &str = "INCUS_GATE_TEST_NETWORK";

/// Has a test run once more, in a network namespace that has these addresses and no way out. Returns `false` outside of it,
/// once the test has run there; it must then do nothing more.
#[must_use]
pub fn own(test: &str, addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        return true;
    }
    let this = std::env::current_exe().expect("a test is a program");
    let ran = Command::new("unshare")
        .arg("--net")
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stderr(Stdio::inherit())
        .output()
        .expect("util-linux has unshare");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && told.contains("test result: ok. 1 passed"),
        "it failed in its network: {told}"
    );
    false
}

/// Connects from one address to another.
pub fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let from: IpAddr = from.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(from, 0).into())
        .expect("it is one of this network's");
    socket.connect(&to.into()).expect("somebody listens");
    socket.into()
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(status.expect("iproute2 has ip").success(), "ip {arguments:?}");
}
