//! What a real Incus logs of the requests that it gets.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use super::support::incus::Incus;

/// `incus monitor`, from before the first request on.
pub(crate) struct Logged {
    monitor: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Logged {
    pub(crate) fn by(incus: &Incus) -> Self {
        let mut monitor = incus.command();
        monitor.args(["monitor", "--type=logging", "--format=json"]);
        let mut monitor = monitor.stdout(Stdio::piped()).spawn().expect("the client starts");
        let output = monitor.stdout.take().expect("it is piped");
        let mut logged = Self {
            monitor,
            lines: BufReader::new(output).lines(),
        };
        while logged.next()["message"] != "Event listener server handler started" {}
        logged
    }

    /// `METHOD TARGET` of what has come until this came, but for what the gateway asks for by itself.
    pub(crate) fn until(mut self, last: &str) -> Vec<String> {
        const OWN: [&str; 2] = ["GET /1.0", "GET /1.0/images?recursion=1"];
        let mut requests = Vec::new();
        loop {
            let entry = self.next();
            let is_request = ["Handling API request", "Sending top level 404"].contains(&text(&entry["message"]));
            let [method, url] = ["method", "url"].map(|key| text(&entry["context"][key]));
            let request = format!("{method} {url}");
            if request == last {
                return requests;
            }
            if is_request && !OWN.contains(&request.as_str()) {
                requests.push(request);
            }
        }
    }

    fn next(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("it goes on").expect("text");
            if !line.is_empty() {
                let entry: Value = serde_json::from_str(&line).expect("JSON");
                return entry["metadata"].clone();
            }
        }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // It may have ended with its Incus.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
