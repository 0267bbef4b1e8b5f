//! The stream of events, with what a test wants it to contain.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Request, Then, Wire, lock};

const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const TEXT: u8 = 0x1;

/// What the streams of one upstream contain. A stream speaks when it is pinged: first the events that wait, then the pong.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Mutex<VecDeque<Vec<u8>>>,
    is_silent: AtomicBool,
    opened: AtomicUsize,
}

impl Events {
    /// Returns the path of the stream.
    pub fn is_request(request: &Request) -> bool {
        request.target() == "/1.0/events?type=lifecycle&all-projects=true"
    }

    /// Sends a lifecycle event before the next pong.
    pub fn send(&self, action: &str, source: &str) {
        self.send_bytes(&event(action, source, Value::Null));
    }

    /// Sends these bytes as a text message before the next pong.
    pub fn send_bytes(&self, text: &[u8]) {
        lock(&self.waiting).push_back(frame(TEXT, text));
    }

    /// Sends these bytes before the next pong.
    pub fn send_raw(&self, bytes: &[u8]) {
        lock(&self.waiting).push_back(bytes.to_vec());
    }

    /// Answers no ping from now on, or does again.
    pub fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Returns the number of streams so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Serves a stream until the gateway closes it.
    pub fn serve(&self, request: &Request, wire: &mut Wire) -> Then {
        let key = request
            .field("sec-websocket-key")
            .expect("a WebSocket request has a key");
        let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, accept.as_bytes()).as_ref());
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        self.opened.fetch_add(1, Ordering::SeqCst);
        while let Some((kind, payload)) = read_frame(wire) {
            if kind != PING || self.is_silent.load(Ordering::SeqCst) {
                continue;
            }
            let waiting: Vec<_> = lock(&self.waiting).drain(..).collect();
            for bytes in waiting {
                wire.send(bytes);
            }
            wire.send(frame(PONG, &payload));
        }
        Then::Cut
    }
}

/// Returns the text of a lifecycle event.
pub fn event(action: &str, source: &str, context: Value) -> Vec<u8> {
    let event = json!({
        "location": "none",
        "metadata": { "action": action, "source": source, "context": context },
        "project": "default",
        "timestamp": "2023-11-14T22:13:20Z",
        "type": "lifecycle",
    });
    event.to_string().into_bytes()
}

/// Returns a whole message as a server sends it.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kind];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(length as u8),
        Ok(length) => {
            bytes.push(126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// Reads a short frame of a client.
fn read_frame(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    wire.read_exact(&mut head).ok()?;
    let [first, length, mask @ ..] = head;
    assert!(length & 0x80 != 0, "a client masks its frames");
    let mut payload = vec![0; usize::from(length & 0x7f)];
    wire.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some((first & 0xf, payload))
}
