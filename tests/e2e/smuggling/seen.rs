//! The observed results of a request, at the client and at Incus.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::corpus::{Case, Expected};
use testing::certificates::Certificate;
use testing::gateway::Gateway;
use testing::scripted::{Scripted, Then};
use testing::tls::frames::{
    self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame,
};
use testing::tls::{End, Raw, TlsClient};

/// `METHOD TARGET BYTES` of each request that reached Incus; `torn` for a truncated one.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// Every response arrives in much less time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sent after each case, to check that the gateway and the client agree on the position in the stream.
const AFTER: &str = "/1.0/after";
/// The response of Incus.
const WELCOME: &[u8] = b"welcome";

/// Starts an upstream that records the requests it receives.
pub(crate) fn recording_upstream() -> (Scripted, Log) {
    let log = Log::default();
    let writer = Arc::clone(&log);
    let upstream = Scripted::start(move |request, wire| {
        let body = wire.read_body();
        let length = body
            .as_ref()
            .map_or_else(|| "torn".to_owned(), |body| body.len().to_string());
        let seen = format!("{} {} {length}", request.method(), request.target());
        writer.lock().expect("nobody panics here").push(seen);
        match body {
            Some(_) => wire.answer("200 OK", "text/plain", WELCOME),
            None => Then::Cut,
        }
    });
    (upstream, log)
}

/// The result of a case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// The statuses of all responses, including that to the following request.
    pub(crate) statuses: Vec<u16>,
    /// The complete requests that Incus received.
    pub(crate) incus: Vec<String>,
    /// The HTTP/2 errors.
    pub(crate) errors: Vec<String>,
    pub(crate) silent: bool,
}

/// The port and the client of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asker {
    Admin,
    /// On the admin port without a certificate.
    Nobody,
    Stranger,
}

impl Asker {
    pub(crate) const ALL: [Self; 3] = [Self::Admin, Self::Nobody, Self::Stranger];

    /// Returns the client and the address of the port.
    pub(crate) fn of(self, gateway: &Gateway, ops: &Certificate) -> (TlsClient, SocketAddr) {
        match self {
            Self::Admin => (TlsClient::of(ops), gateway.admin()),
            Self::Nobody => (TlsClient::tls13(), gateway.admin()),
            Self::Stranger => (TlsClient::tls13(), gateway.public()),
        }
    }
}

impl Seen {
    /// Returns the expected result.
    pub(crate) fn expected(expected: &Expected, asker: Asker, version: Version) -> Self {
        let own = match asker {
            Asker::Admin => 200,
            Asker::Nobody | Asker::Stranger => 403,
        };
        let mut seen = Self::default();
        let mut after = false;
        match expected {
            Expected::Read { requests, goes_on } => {
                seen.statuses = vec![own; requests.len()];
                seen.incus.clone_from(requests);
                after = *goes_on;
            }
            Expected::Refused {
                status,
                public,
                nobody,
                goes_on,
            } => {
                let status = match asker {
                    Asker::Admin => status,
                    Asker::Nobody => nobody,
                    Asker::Stranger => public,
                };
                seen.statuses.push(*status);
                after = *goes_on;
            }
            // A stranger is correctly rejected after the header section.
            Expected::Torn if asker == Asker::Admin => seen.statuses.push(400),
            Expected::Torn => seen.statuses.push(403),
            Expected::Ended => {}
            Expected::Reset { code, .. } => {
                seen.errors.push(code.clone());
                after = true;
            }
            Expected::Goaway(code) => seen.errors.push(code.clone()),
        }
        // A rejected client gets no second response.
        if asker == Asker::Nobody && !seen.statuses.is_empty() {
            seen.statuses.truncate(1);
            after = false;
        }
        if after && !(asker == Asker::Nobody && version == Version::Http2) {
            seen.statuses.push(own);
            seen.incus.push(format!("GET {AFTER} 0"));
        }
        if asker != Asker::Admin {
            seen.incus.clear();
        }
        // Streams may complete in any order.
        if version == Version::Http2 {
            seen.incus.sort_unstable();
        }
        seen
    }
}

/// The version of HTTP that a case is sent with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Version {
    pub(crate) fn ask(self, client: &TlsClient, port: SocketAddr, case: &Case, log: &Log, asker: Asker) -> Seen {
        match self {
            Self::Http1 => {
                let mut raw = client.connect(port).expect("a handshake");
                raw.patience = PATIENCE;
                ask_http1(&mut raw, case, log)
            }
            Self::Http2 => {
                let mut raw = frames::connect(client, port);
                raw.patience = PATIENCE;
                ask_http2(&mut raw, case, log, asker)
            }
        }
    }
}

fn ask_http1(raw: &mut Raw, case: &Case, log: &Log) -> Seen {
    let after = format!("GET {AFTER} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n");
    let mut seen = Seen::default();
    // It may have been rejected before everything was sent.
    let _ = raw.send([case.lines.concat(), after.into_bytes()].concat());
    seen.silent = loop {
        match raw.read_answer() {
            Ok(answer) => seen.statuses.push(answer.head.status),
            Err(end) => break end == End::Silence,
        }
    };
    seen.incus = whole(log);
    seen
}

/// On stream 1, and then on stream 3.
fn ask_http2(raw: &mut Raw, case: &Case, log: &Log, asker: Asker) -> Seen {
    let lines: Vec<&[u8]> = case
        .lines
        .iter()
        .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
        .collect();
    let mut parts = lines.splitn(2, |line| line.is_empty());
    let fields = parts.next().unwrap_or_default().iter().map(|line| field(line));
    let body = parts.next().map(<[&[u8]]>::concat);
    let ends = if body.is_none() { END_STREAM } else { 0 };
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    bytes.extend(frame(HEADERS, END_HEADERS | ends, 1, &frames::block(fields)));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, &body));
    }
    let after = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.test"),
        (":path", AFTER),
    ];
    // A client without a certificate gets one response only.
    if asker != Asker::Nobody {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, &frames::block(after)));
    }
    raw.send(bytes).expect("the gateway reads");

    let mut seen = Seen::default();
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut open = if asker == Asker::Nobody { vec![1] } else { vec![1, 3] };
    seen.silent = loop {
        let frame = match raw.read_frame() {
            Ok(frame) => frame,
            Err(end) => break end == End::Silence,
        };
        match frame.kind {
            DATA => bodies.entry(frame.stream).or_default().extend(&frame.payload),
            GOAWAY | RST_STREAM if frame.code() != "NO_ERROR" => seen.errors.push(frame.code().to_owned()),
            _ => {}
        }
        if frame.ends_stream() || frame.kind == RST_STREAM {
            open.retain(|stream| *stream != frame.stream);
        }
        if open.is_empty() {
            break false;
        }
    };
    seen.statuses = bodies.values().map(|body| status(body)).collect();
    seen.incus = whole(log);
    seen.incus.sort_unstable();
    seen
}

fn field(line: &[u8]) -> (&[u8], &[u8]) {
    // Pseudo-header names begin with a colon, and an invalid name may contain one: the last one before a blank counts.
    let at = line.windows(2).position(|two| two == b": ").filter(|at| *at > 0);
    match at {
        Some(at) => (&line[..at], &line[at + 2..]),
        None => (line.strip_suffix(b":").expect("a colon"), b""),
    }
}

/// Returns the status in the body, so that no HPACK decoder is needed.
fn status(body: &[u8]) -> u16 {
    if body == WELCOME {
        return 200;
    }
    let refusal: serde_json::Value = serde_json::from_slice(body).expect("a refusal in JSON");
    let status = refusal["error_code"].as_u64().expect("a status");
    u16::try_from(status).expect("a status")
}

fn whole(log: &Log) -> Vec<String> {
    let seen = std::mem::take(&mut *log.lock().expect("nobody panics here"));
    seen.into_iter().filter(|line| !line.ends_with(" torn")).collect()
}
