//! The requests that a real Incus logs.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::gateway::PATIENCE;
use super::incus::Incus;
use super::run::Started;

/// `incus monitor`, connected before the first request.
#[derive(Debug)]
pub struct Monitor {
    _client: Started,
    lines: Receiver<String>,
}

/// A request, as Incus parsed it.
#[derive(Debug)]
pub struct Logged {
    /// The method, for example `GET`.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The client's address; `None` over the Unix socket.
    pub client: Option<IpAddr>,
}

impl Monitor {
    /// Starts to monitor a daemon.
    pub fn of(incus: &Incus) -> Self {
        let mut command = incus.command();
        command.args(["monitor", "--type=logging", "--format=json"]);
        let mut client = Started::by(command.stdout(Stdio::piped()));
        let output = BufReader::new(client.stdout.take().expect("stdout is a pipe"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                // The receiver may have been dropped.
                let _ = tell.send(line);
            }
        });
        let monitor = Self { _client: client, lines };
        while monitor.next()["message"] != "Event listener server handler started" {}
        monitor
    }

    /// Waits for the next request.
    pub fn request(&self) -> Logged {
        loop {
            let entry = self.next();
            let [message, method, target, client] = [
                &entry["message"],
                &entry["context"]["method"],
                &entry["context"]["url"],
                &entry["context"]["ip"],
            ]
            .map(|value| value.as_str().unwrap_or_default());
            if ["Handling API request", "Sending top level 404"].contains(&message) {
                return Logged {
                    method: method.to_owned(),
                    target: target.to_owned(),
                    client: client.parse().ok().map(|address: SocketAddr| address.ip()),
                };
            }
        }
    }

    fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("Incus logs requests");
        let entry: Value = serde_json::from_str(&line).expect("JSON");
        entry["metadata"].clone()
    }
}
