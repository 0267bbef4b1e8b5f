//! A private network for a test, in which clients have addresses other than loopback and packets can be dropped or delayed.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::panic::Location;
use std::path::Path;
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

use super::run::run;

/// Environment variable that marks a test that already runs inside the network.
const INSIDE: &str = "INCUS_GATE_TEST_NETWORK";

/// Runs the test again in a network namespace that has these addresses and no route out. Outside of it, returns `false` once
/// the test has run there; the caller must then do nothing more.
#[must_use]
#[track_caller]
pub fn own(test: &str, addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        return true;
    }
    // Each module of tests is its own file.
    let file = Path::new(Location::caller().file());
    let module = file.file_stem().expect("a file has a name").to_string_lossy();
    let this = std::env::current_exe().expect("a test has an executable");
    let ran = Command::new("unshare")
        .arg("--net")
        .arg(this)
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
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
        .expect("an address of this network");
    socket.connect(&to.into()).expect("a listener accepts connections");
    socket.into()
}

/// Connects like a proxy, and sends a PROXY header with this client's address.
pub fn announce(client: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(to)?;
    let kind = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let here = if client.is_ipv4() { "127.0.0.1" } else { "::1" };
    let port = tcp.local_addr()?.port();
    tcp.write_all(format!("PROXY {kind} {client} {here} {port} {}\r\n", to.port()).as_bytes())?;
    Ok(tcp)
}

/// A packet filter for some ports, in effect until it is dropped. Only one can exist at a time.
#[derive(Debug)]
pub struct Disturbed(());

impl Disturbed {
    /// Installs an nftables rule with this verdict in the test's own network.
    fn by(ports: &[u16], verdict: &str) -> Self {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        let rules = format!(
            "table inet disturbed {{\nchain out {{\ntype filter hook output priority 0;\n\
             tcp dport {{ {ports} }} {verdict}\ntcp sport {{ {ports} }} {verdict}\n}}\n}}\n"
        );
        run(Command::new("nft").arg(rules)).ok();
        Self(())
    }

    /// Drops all packets.
    pub fn cut(ports: &[u16]) -> Self {
        Self::by(ports, "drop")
    }

    /// Answers every packet with a TCP reset.
    pub fn reset(ports: &[u16]) -> Self {
        // The resets themselves must pass.
        Self::by(ports, "tcp flags & rst == 0 reject with tcp reset")
    }

    /// Drops five percent of the packets at random.
    pub fn lossy(ports: &[u16]) -> Self {
        Self::by(ports, "numgen random mod 100 < 5 drop")
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        run(Command::new("nft").args(["delete", "table", "inet", "disturbed"])).ok();
    }
}

/// A bandwidth limit for the whole network, with a queue of up to this many milliseconds, in effect until it is dropped.
#[derive(Debug)]
pub struct Slow(());

impl Slow {
    pub fn of(rate: &str, milliseconds: u32) -> Self {
        let latency = format!("{milliseconds}ms");
        run(Command::new("tc")
            .args(["qdisc", "add", "dev", "lo", "root", "tbf", "burst", "128k"])
            .args(["rate", rate, "latency", &latency]))
        .ok();
        Self(())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        run(Command::new("tc").args(["qdisc", "del", "dev", "lo", "root"])).ok();
    }
}

/// Runs `ip` of iproute2.
pub fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments)).ok();
}
