//! Single HTTP/2 frames (RFC 9113), for input that no library sends.

use std::net::SocketAddr;

use super::{End, Raw, TlsClient};

/// The connection preface of a client (§3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flag of `SETTINGS` and `PING`.
pub const ACK: u8 = 1;
/// Flag of `DATA` and `HEADERS`.
pub const END_STREAM: u8 = 1;
/// Flag of `HEADERS` and `CONTINUATION`.
pub const END_HEADERS: u8 = 4;
/// Flag of `DATA` and `HEADERS`.
pub const PADDED: u8 = 8;
/// Flag of `HEADERS`.
pub const WITH_PRIORITY: u8 = 0x20;

/// The names of the error codes (§7), indexed by code.
pub const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Encodes a frame (§4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Encodes fields in HPACK, as literals without indexing (RFC 7541 §6.2.2).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(text.len(), &mut block);
            block.extend(text);
        }
    }
    block
}

/// Encodes an integer with a seven-bit prefix (RFC 7541 §5.1).
fn length(length: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(0x7f) else {
        return block.push(u8::try_from(length).expect("less than 127"));
    };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A received frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns the name of the error code of a `RST_STREAM` or `GOAWAY`.
    pub fn code(&self) -> &'static str {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..].first_chunk().map(|code| u32::from_be_bytes(*code));
        CODES[code.expect("a whole frame") as usize]
    }

    /// Returns whether it is the last frame of its stream.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// Connects with HTTP/2, without sending anything yet.
pub fn connect(client: &TlsClient, address: SocketAddr) -> Raw {
    let raw = client.clone().alpn(&["h2"]).connect(address);
    raw.expect("a handshake")
}

impl Raw {
    /// Reads the next frame.
    pub fn read_frame(&mut self) -> Result<Frame, End> {
        let head = self.read_exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload: self.read_exactly(length as usize)?,
        })
    }
}
