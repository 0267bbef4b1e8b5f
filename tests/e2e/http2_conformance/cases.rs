//! The frames and their expected results.

use super::seen::Port;
use testing::tls::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, frame,
};

/// The stream of the probe that checks whether the connection is still open.
pub(crate) const PROBE: u32 = 1001;

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The section of RFC 9113, unless another RFC is named.
    pub(crate) rule: &'static str,
    pub(crate) sent: Sent,
    pub(crate) expected: Expected,
}

/// The bytes to send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    /// From the first byte.
    Bare(fn(Port) -> Vec<u8>),
    /// After the preface and empty SETTINGS.
    Frames(fn(Port) -> Vec<u8>),
}

/// The expected result.
#[derive(Debug)]
pub(crate) enum Expected {
    /// These streams get complete responses, and the connection stays open.
    Answered(&'static [u32]),
    /// The connection stays open.
    Ignored,
    /// A PING is acknowledged with this payload.
    Pong(&'static [u8]),
    /// SETTINGS are acknowledged.
    Settings,
    /// This stream ends with this error, and the connection stays open.
    Reset(u32, &'static str),
    /// Some streams are refused and may be retried.
    Refused,
    /// The connection ends with this error.
    Goaway(&'static str),
    /// The connection ends without an error code.
    Closed,
}

use Expected::{Answered, Closed, Goaway, Ignored, Pong, Refused, Reset, Settings};
use Sent::{Bare, Frames};

const fn case(name: &'static str, rule: &'static str, sent: Sent, expected: Expected) -> Case {
    Case {
        name,
        rule,
        sent,
        expected,
    }
}

/// Returns a complete request.
fn get(port: Port, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &port.block())
}

/// Returns the header section of a request with a body.
fn post(port: Port, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &port.block())
}

/// Returns a request whose header section ends with this HPACK block.
fn get_with(port: Port, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&port.block(), block].concat())
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(
        SETTINGS,
        0,
        0,
        &[id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat(),
    )
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn trailers(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, 1, &block(fields.iter().copied()))
}

/// Cases that end as the RFC requires.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    // Starting.
    case("a preface that is none", "§3.4: GOAWAY may be left out", Bare(|_| b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()), Closed),
    case("HTTP/1.1", "§3.4: GOAWAY may be left out", Bare(|_| b"GET /1.0 HTTP/1.1\r\nHost: gate.test\r\n\r\n".to_vec()), Closed),

    // Frames.
    case("a kind that nobody knows", "§4.1, §5.5", Frames(|_| frame(0x16, 0xff, 0, b"whatever")), Ignored),
    case("the same on a stream", "§5.5", Frames(|port| [post(port, 1), frame(0x16, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"")].concat()), Answered(&[1])),
    case("flags that nobody knows", "§4.1", Frames(|_| frame(PING, 0x16, 0, b"12345678")), Pong(b"12345678")),
    case("a reserved bit of the stream", "§4.1", Frames(|_| frame(PING, 0, 0x8000_0000, b"12345678")), Pong(b"12345678")),
    case("DATA that is too large", "§4.2", Frames(|port| [post(port, 1), frame(DATA, END_STREAM, 1, &[0; 16_385])].concat()), Goaway("FRAME_SIZE_ERROR")),
    case("HEADERS that are too large", "§4.2", Frames(|_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 16_385])), Goaway("FRAME_SIZE_ERROR")),
    case("a frame as large as may be", "§4.2", Frames(|port| [post(port, 1), frame(DATA, END_STREAM, 1, &[0; 16_384])].concat()), Answered(&[1])),
    case("an unknown kind within a head", "§5.5", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), frame(0x16, 0, 1, b"x")].concat()), Goaway("PROTOCOL_ERROR")),
    case("another stream within a head", "§4.3", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), get(port, 3)].concat()), Goaway("PROTOCOL_ERROR")),
    case("PRIORITY within a head", "§4.3", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), frame(PRIORITY, 0, 1, &[0; 5])].concat()), Goaway("PROTOCOL_ERROR")),

    // Streams.
    case("several at once", "§5.1", Frames(|port| [get(port, 1), get(port, 3), get(port, 5)].concat()), Answered(&[1, 3, 5])),
    case("DATA on an idle stream", "§5.1", Frames(|_| frame(DATA, END_STREAM, 1, b"x")), Goaway("PROTOCOL_ERROR")),
    case("RST_STREAM on an idle stream", "§5.1, §6.4", Frames(|_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])), Goaway("PROTOCOL_ERROR")),
    case("WINDOW_UPDATE on an idle stream", "§5.1", Frames(|_| window(1, 100)), Goaway("PROTOCOL_ERROR")),
    case("PRIORITY on an idle stream", "§5.1", Frames(|_| frame(PRIORITY, 0, 1, &[0; 5])), Ignored),
    case("an even stream", "§5.1.1", Frames(|port| get(port, 2)), Goaway("PROTOCOL_ERROR")),
    case("HEADERS on no stream", "§5.1.1, §6.2", Frames(|port| get(port, 0)), Goaway("PROTOCOL_ERROR")),
    case("a smaller number than before", "§5.1.1", Frames(|port| [get(port, 5), get(port, 3)].concat()), Goaway("PROTOCOL_ERROR")),
    case("more than may be", "§5.1.2", Frames(|port| (0..140).flat_map(|n| post(port, 1 + 2 * n)).collect()), Refused),
    case("as many as may be", "§5.1.2", Frames(|port| (0..30).flat_map(|n| get(port, 1 + 2 * n)).collect()), Answered(&[1, 31, 59])),
    case("a stream reset at once", "§5.4.2", Frames(|port| [post(port, 1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat()), Ignored),
    case("WINDOW_UPDATE on a stream that is over", "§5.1", Frames(|port| [get(port, 1), window(1, 100)].concat()), Answered(&[1])),
    case("a code that nobody knows", "§7", Frames(|port| [post(port, 1), frame(RST_STREAM, 0, 1, &[0xff; 4])].concat()), Ignored),

    // DATA.
    case("DATA on no stream", "§6.1", Frames(|_| frame(DATA, END_STREAM, 0, b"x")), Goaway("PROTOCOL_ERROR")),
    case("padded DATA", "§6.1", Frames(|port| [post(port, 1), frame(DATA, END_STREAM | PADDED, 1, b"\x02x\0\0")].concat()), Answered(&[1])),
    case("DATA of padding alone", "§6.1", Frames(|port| [post(port, 1), frame(DATA, END_STREAM | PADDED, 1, b"\x02\0\0")].concat()), Answered(&[1])),
    case("more padding than DATA", "§6.1", Frames(|port| [post(port, 1), frame(DATA, END_STREAM | PADDED, 1, b"\x09x\0\0")].concat()), Goaway("PROTOCOL_ERROR")),

    // HEADERS.
    case("padded HEADERS", "§6.2", Frames(|port| frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[2], port.block().as_slice(), &[0, 0]].concat())), Answered(&[1])),
    case("more padding than HEADERS", "§6.2", Frames(|_| frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[9, 0x82])), Goaway("PROTOCOL_ERROR")),
    case("HEADERS with a priority", "§6.2", Frames(|port| frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 16], port.block().as_slice()].concat())), Answered(&[1])),

    // PRIORITY.
    case("PRIORITY on no stream", "§6.3", Frames(|_| frame(PRIORITY, 0, 0, &[0; 5])), Goaway("PROTOCOL_ERROR")),

    // RST_STREAM.
    case("RST_STREAM on no stream", "§6.4", Frames(|_| frame(RST_STREAM, 0, 0, &[0, 0, 0, 8])), Goaway("PROTOCOL_ERROR")),

    // SETTINGS.
    case("SETTINGS", "§6.5.3", Frames(|_| setting(4, 70_000)), Settings),
    case("a setting that nobody knows", "§6.5.2", Frames(|_| setting(0xff, 1)), Settings),
    case("SETTINGS on a stream", "§6.5", Frames(|_| frame(SETTINGS, 0, 1, &[])), Goaway("PROTOCOL_ERROR")),
    case("ENABLE_PUSH of 2", "§6.5.2", Frames(|_| setting(2, 2)), Goaway("PROTOCOL_ERROR")),
    case("MAX_FRAME_SIZE that is too small", "§6.5.2", Frames(|_| setting(5, 16_383)), Goaway("PROTOCOL_ERROR")),
    case("MAX_FRAME_SIZE that is too large", "§6.5.2", Frames(|_| setting(5, 1 << 24)), Goaway("PROTOCOL_ERROR")),

    // PUSH_PROMISE.
    case("PUSH_PROMISE", "§8.4", Frames(|port| [post(port, 1), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], port.block().as_slice()].concat())].concat()), Goaway("PROTOCOL_ERROR")),

    // PING.
    case("PING", "§6.7", Frames(|_| frame(PING, 0, 0, b"12345678")), Pong(b"12345678")),
    case("an answer to no PING", "§6.7", Frames(|_| frame(PING, ACK, 0, b"12345678")), Ignored),
    case("PING on a stream", "§6.7", Frames(|_| frame(PING, 0, 1, b"12345678")), Goaway("PROTOCOL_ERROR")),

    // GOAWAY.
    case("GOAWAY", "§6.8: what is under way is answered", Frames(|port| [get(port, 1), frame(GOAWAY, 0, 0, &[0; 8])].concat()), Goaway("NO_ERROR")),
    case("GOAWAY on a stream", "§6.8", Frames(|_| frame(GOAWAY, 0, 1, &[0; 8])), Goaway("PROTOCOL_ERROR")),

    // WINDOW_UPDATE.
    case("a window larger by 0", "§6.9", Frames(|_| window(0, 0)), Goaway("PROTOCOL_ERROR")),
    case("a window larger than any", "§6.9.1", Frames(|_| window(0, 0x7fff_ffff)), Goaway("FLOW_CONTROL_ERROR")),
    case("a stream's window larger than any", "§6.9.1", Frames(|port| [post(port, 1), window(1, 0x7fff_ffff)].concat()), Reset(1, "FLOW_CONTROL_ERROR")),

    // CONTINUATION.
    case("a head in parts", "§6.10", Frames(|port| { let block = port.block(); [frame(HEADERS, END_STREAM, 1, &block[..9]), frame(CONTINUATION, 0, 1, &block[9..20]), frame(CONTINUATION, END_HEADERS, 1, &block[20..])].concat() }), Answered(&[1])),
    case("CONTINUATION of nothing", "§6.10", Frames(|_| frame(CONTINUATION, END_HEADERS, 1, &[0x82])), Goaway("PROTOCOL_ERROR")),
    case("CONTINUATION on no stream", "§6.10", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), frame(CONTINUATION, END_HEADERS, 0, &[])].concat()), Goaway("PROTOCOL_ERROR")),
    case("CONTINUATION of another stream", "§6.10", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), frame(CONTINUATION, END_HEADERS, 3, &[])].concat()), Goaway("PROTOCOL_ERROR")),
    case("CONTINUATION after the end of a head", "§6.10", Frames(|port| [post(port, 1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()), Goaway("PROTOCOL_ERROR")),
    case("CONTINUATION after DATA", "§6.10", Frames(|port| [post(port, 1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()), Goaway("PROTOCOL_ERROR")),

    // HPACK.
    case("a field of the static table", "RFC 7541 §6.1", Frames(|port| get_with(port, &[0x90])), Answered(&[1])),
    case("a field into the table, and out of it", "RFC 7541 §6.2.1", Frames(|port| get_with(port, b"\x40\x01x\x01y\xbe")), Answered(&[1])),
    case("a smaller table", "RFC 7541 §6.3", Frames(|port| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&[0x3f, 0xe1, 0x1f], port.block().as_slice()].concat())), Answered(&[1])),

    // Trailers.
    case("trailers", "§8.1", Frames(|port| [post(port, 1), frame(DATA, 0, 1, b"x"), trailers(END_HEADERS | END_STREAM, &[("x", "y")])].concat()), Answered(&[1])),
    case("trailers that are not the end", "§8.1", Frames(|port| [post(port, 1), frame(DATA, 0, 1, b"x"), trailers(END_HEADERS, &[("x", "y")])].concat()), Reset(1, "PROTOCOL_ERROR")),
    case("a head as large as may be", "§10.5.1", Frames(|port| [frame(HEADERS, END_STREAM, 1, &port.block()), frame(CONTINUATION, END_HEADERS, 1, &block([("x", "v".repeat(16_000))]))].concat()), Answered(&[1])),
];

/// Cases that differ from the RFC safely.
#[rustfmt::skip]
pub(crate) const DIFFERENCES: &[Case] = &[
    // The requirement of the RFC follows its section. In most cases the connection ends with another code.
    case("frames before SETTINGS", "§3.4: PROTOCOL_ERROR", Bare(|port| [PREFACE.to_vec(), get(port, 1)].concat()), Answered(&[1])),
    case("HEADERS on a stream that is half closed", "§5.1: STREAM_CLOSED", Frames(|port| [get(port, 1), get(port, 1)].concat()), Goaway("PROTOCOL_ERROR")),
    case("DATA on a stream that is half closed", "§5.1: STREAM_CLOSED", Frames(|port| [get(port, 1), frame(DATA, END_STREAM, 1, b"x")].concat()), Goaway("PROTOCOL_ERROR")),
    case("a short PRIORITY", "§6.3: FRAME_SIZE_ERROR of the stream", Frames(|_| frame(PRIORITY, 0, 1, &[0; 4])), Goaway("PROTOCOL_ERROR")),
    case("a short RST_STREAM", "§6.4: FRAME_SIZE_ERROR", Frames(|port| [post(port, 1), frame(RST_STREAM, 0, 1, &[0; 3])].concat()), Goaway("PROTOCOL_ERROR")),
    case("SETTINGS acknowledged with something", "§6.5: FRAME_SIZE_ERROR", Frames(|_| frame(SETTINGS, ACK, 0, &[0; 6])), Goaway("PROTOCOL_ERROR")),
    case("SETTINGS of no whole setting", "§6.5: FRAME_SIZE_ERROR", Frames(|_| frame(SETTINGS, 0, 0, &[0; 5])), Goaway("PROTOCOL_ERROR")),
    case("INITIAL_WINDOW_SIZE that is too large", "§6.5.2: FLOW_CONTROL_ERROR", Frames(|_| setting(4, 0x8000_0000)), Goaway("PROTOCOL_ERROR")),
    case("a short PING", "§6.7: FRAME_SIZE_ERROR", Frames(|_| frame(PING, 0, 0, b"1234")), Goaway("PROTOCOL_ERROR")),
    case("a short WINDOW_UPDATE", "§6.9: FRAME_SIZE_ERROR", Frames(|_| frame(WINDOW_UPDATE, 0, 0, &[0; 3])), Goaway("PROTOCOL_ERROR")),
    case("a stream's window larger by 0", "§6.9: PROTOCOL_ERROR of the stream", Frames(|port| [post(port, 1), window(1, 0)].concat()), Goaway("PROTOCOL_ERROR")),
    case("a table that grows beyond its limit", "RFC 7541 §6.3: COMPRESSION_ERROR", Frames(|_| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3f, 0xff, 0xff, 0x03])), Goaway("PROTOCOL_ERROR")),
    case("a table that changes at the end of a head", "RFC 7541 §4.2: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0x20])), Goaway("PROTOCOL_ERROR")),
    case("a field beyond the table", "RFC 7541 §2.3.3: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0xff, 0x7f])), Goaway("PROTOCOL_ERROR")),
    case("field 0 of the table", "RFC 7541 §6.1: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0x80])), Goaway("PROTOCOL_ERROR")),
    case("a Huffman code for the end", "RFC 7541 §5.2: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])), Goaway("PROTOCOL_ERROR")),
    case("Huffman padding of zeros", "RFC 7541 §5.2: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0, 1, b'x', 0x81, 0x18])), Goaway("PROTOCOL_ERROR")),
    case("a number beyond 32 bits", "RFC 7541 §5.1: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])), Goaway("PROTOCOL_ERROR")),
    case("a head that breaks off", "RFC 7541 §5.2: COMPRESSION_ERROR", Frames(|port| get_with(port, &[0, 1, b'x', 9, b'y'])), Goaway("PROTOCOL_ERROR")),
    case("a stream that depends on itself", "§5.3.1 of RFC 7540: PROTOCOL_ERROR of the stream; RFC 9113 has no such thing any more", Frames(|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16])), Reset(1, "PROTOCOL_ERROR")),
    case("HEADERS that depend on themselves", "likewise", Frames(|port| frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 16], port.block().as_slice()].concat())), Reset(1, "PROTOCOL_ERROR")),
    case("a pseudo-header among trailers", "§8.1: PROTOCOL_ERROR of the stream; trailers are dropped here", Frames(|port| [post(port, 1), frame(DATA, 0, 1, b"x"), trailers(END_HEADERS | END_STREAM, &[(":path", "/1.0/y")])].concat()), Answered(&[1])),
];
