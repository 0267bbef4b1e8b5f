//! A service manager from the view of a service: it passes sockets and receives notifications.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::gateway::{PATIENCE, binary};

/// The service manager. Its sockets are closed when it is dropped.
#[derive(Debug)]
pub struct Manager {
    messages: Mutex<Receiver<Vec<String>>>,
    folder: TempDir,
    public: TcpListener,
    admin: TcpListener,
}

/// Moves the sockets to the descriptors that sd_listen_fds(3) expects; `exec` keeps the process id.
const HAND_OVER: &str = r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec "$@""#;

impl Manager {
    /// Binds both ports and the notification socket.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let (heard, messages) = channel();
        // Received immediately, because a service waits for its manager. The thread ends when the receiver is dropped.
        thread::spawn(move || while heard.send(receive(&socket)).is_ok() {});
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self {
            messages: Mutex::new(messages),
            folder,
            public: bind(),
            admin: bind(),
        }
    }

    /// Returns the address of the public port.
    pub fn public(&self) -> SocketAddr {
        self.public.local_addr().expect("the socket is bound")
    }

    /// Returns the address of the admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin.local_addr().expect("the socket is bound")
    }

    /// Returns the command of a gateway that sends its notifications to this manager.
    pub fn command(&self) -> Command {
        self.command_of(Path::new(binary()))
    }

    /// Like [`Self::command`], with another binary.
    pub fn command_of(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.notify_from(command)
    }

    /// Like [`Self::command`], and the gateway inherits both ports.
    pub fn command_with_sockets(&self) -> Command {
        self.command_with(
            [&self.public, &self.admin]
                .map(|socket| OwnedFd::from(socket.try_clone().expect("a socket can be duplicated"))),
        )
    }

    /// Like [`Self::command`], and the gateway inherits these sockets.
    pub fn command_with(&self, [third, fourth]: [OwnedFd; 2]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", HAND_OVER, "sh", binary()])
            .stdin(third)
            .stdout(fourth);
        self.notify_from(command)
    }

    /// Waits for the next message that contains this line. Messages before it are discarded.
    #[track_caller]
    pub fn wait_for(&self, line: &str) -> Vec<String> {
        self.next_message(line, PATIENCE)
            .unwrap_or_else(|| panic!("no message says {line:?}"))
    }

    /// Returns whether a message that contains this line arrives within the given time.
    pub fn receives(&self, line: &str, within: Duration) -> bool {
        self.next_message(line, within).is_some()
    }

    fn next_message(&self, line: &str, within: Duration) -> Option<Vec<String>> {
        let deadline = Instant::now() + within;
        let messages = self.messages.lock().expect("no thread panics while holding the lock");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let lines = messages.recv_timeout(left).ok()?;
            if lines.iter().any(|other| other == line) {
                return Some(lines);
            }
        }
    }

    fn notify_from(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command
    }
}

fn receive(socket: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 8 << 10];
    let length = socket.recv(&mut message).expect("a datagram");
    let text = String::from_utf8_lossy(&message[..length]);
    text.lines().map(str::to_owned).collect()
}
