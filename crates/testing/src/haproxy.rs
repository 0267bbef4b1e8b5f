//! A real HAProxy, which sends the client's address in the PROXY protocol.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::gateway::PATIENCE;
use super::incus::free_address;
use super::run::Started;

/// A running HAProxy. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Haproxy {
    _child: Started,
    address: SocketAddr,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts HAProxy in front of a port. `how` is a server option such as `send-proxy` or `send-proxy-v2`.
    pub fn before(port: SocketAddr, how: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("haproxy.cfg");
        let address = free_address();
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
             listen gate\n bind {address}\n server gate {port} {how}\n"
        );
        std::fs::write(&file, configuration).expect("a temporary file can be written");
        let mut command = Command::new("haproxy");
        command.arg("-q").arg("-db").arg("-f").arg(&file);
        let child = Started::by(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let proxy = Self {
            _child: child,
            address,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "haproxy does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        proxy
    }

    /// Returns the listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the listen address as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}
