//! A real Incus daemon, removed with all its state when the value is dropped.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::certificates::Certificate;
use super::run::{Output, run, signal};

/// Timeout for operations that a healthy daemon completes much faster.
const PATIENCE: Duration = Duration::from_secs(30);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/throwaway-incus");

/// A running daemon. It listens on a port of 127.0.0.1 that it keeps over a restart.
#[derive(Debug)]
pub struct Incus {
    folder: TempDir,
    address: SocketAddr,
}

impl Incus {
    /// Starts a daemon that trusts these client certificates.
    pub fn start(trusted: &[&Certificate]) -> Self {
        loop {
            let incus = Self {
                folder: tempfile::tempdir().expect("a temporary folder"),
                address: free_address(),
            };
            let up = incus.up(trusted);
            // Another process took the port in the meantime: try another port.
            if !up.stderr.contains("address already in use") {
                up.ok();
                return incus;
            }
        }
    }

    /// Returns the listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the listen address as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Returns the path of the server certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.variable().join("server.crt")
    }

    /// Runs the real client on the Unix socket, with root's permissions.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        run(self.command().args(arguments))
    }

    /// Returns the client's command, for tests that need more than arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("incus");
        command
            .env("INCUS_DIR", self.variable())
            .env("INCUS_CONF", self.folder.path().join("home"));
        command
    }

    /// Makes the client, and the daemon for it, trust this server certificate for the remote of this name.
    pub fn trust_remote(&self, remote: &str, certificate: &Certificate) {
        let folder = self.folder.path().join("home/servercerts");
        std::fs::create_dir_all(&folder).expect("a temporary folder can be created");
        let file = folder.join(format!("{remote}.crt"));
        std::fs::copy(&certificate.certificate, file).expect("a temporary file can be written");
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("incusd.log")).unwrap_or_default()
    }

    /// Stops the daemon cleanly. Its state is kept.
    pub fn stop(&self) {
        self.script("stop").ok();
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port, with the same state.
    pub fn start_again(&self) {
        self.up(&[]).ok();
    }

    /// Kills the daemon with SIGKILL, and waits until it has ended.
    pub fn kill(&self) {
        let pid = self.pid();
        signal(pid, "KILL");
        let deadline = Instant::now() + PATIENCE;
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "incusd does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Suspends the daemon: its sockets stay open but do not respond. It resumes when the returned value is dropped.
    pub fn pause(&self) -> Paused {
        let pid = self.pid();
        signal(pid, "STOP");
        let deadline = Instant::now() + PATIENCE;
        while !is_stopped(pid) {
            assert!(Instant::now() < deadline, "the daemon goes on");
            std::thread::yield_now();
        }
        Paused(pid)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).expect("a running daemon has a pid file");
        pid.trim().parse().expect("a process id")
    }

    /// Returns `INCUS_DIR`.
    pub fn variable(&self) -> PathBuf {
        self.folder.path().join("var")
    }

    fn up(&self, trusted: &[&Certificate]) -> Output {
        let trusted = trusted.iter().map(|certificate| &certificate.certificate);
        let port = self.address.port().to_string();
        run(Command::new(SCRIPT)
            .arg("up")
            .arg(self.folder.path())
            .arg(port)
            .args(trusted))
    }

    fn script(&self, what: &str) -> Output {
        run(Command::new(SCRIPT).arg(what).arg(self.folder.path()))
    }
}

impl Drop for Incus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- incusd at {}\n{}", self.address, self.log());
        }
        // A failure here must not hide the failure of the test.
        let down = self.script("down");
        if !down.status.success() {
            eprintln!("{down}");
        }
    }
}

/// A suspended daemon. It resumes when this is dropped.
#[derive(Debug)]
pub struct Paused(u32);

impl Drop for Paused {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

/// Returns whether every thread has stopped. SIGSTOP takes time to reach all of them.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running daemon");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

/// Returns a free address of 127.0.0.1.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
