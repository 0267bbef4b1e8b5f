//! The observed results of frames.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::cases::{Case, Expected, PROBE, Sent};
use testing::tls::frames::{
    self, ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame,
};
use testing::tls::{End, TlsClient};

/// The port, since each responds differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Port {
    Admin,
    Public,
}

impl Port {
    /// Returns the fields of a request that gets a 200.
    pub(crate) fn fields(self) -> Vec<(&'static str, &'static str)> {
        let path = match self {
            Self::Admin => "/1.0/x",
            Self::Public => "/1.0",
        };
        vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "gate.test"),
            (":path", path),
        ]
    }

    /// Returns the same fields in HPACK.
    pub(crate) fn block(self) -> Vec<u8> {
        frames::block(self.fields())
    }
}

/// The observed result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Streams with complete responses.
    answered: BTreeSet<u32>,
    resets: Vec<(u32, &'static str)>,
    goaway: Option<&'static str>,
    /// The payload of the acknowledged PING.
    pongs: Vec<Vec<u8>>,
    /// Number of acknowledged SETTINGS.
    settings: usize,
    /// `None` while the connection is open.
    end: Option<End>,
}

impl Seen {
    pub(crate) fn of(client: &TlsClient, address: SocketAddr, port: Port, case: &Case) -> Self {
        let mut raw = frames::connect(client, address);
        raw.patience = Duration::from_secs(2);
        let mut bytes = match case.sent {
            Sent::Bare(_) => Vec::new(),
            Sent::Frames(_) => [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat(),
        };
        let (Sent::Bare(frames) | Sent::Frames(frames)) = case.sent;
        bytes.extend(frames(port));
        // Whether the connection is open: a response to this, and a PING after all responses.
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, PROBE, &port.block()));
        // The connection may end before everything is sent.
        let _ = raw.send(bytes);
        let mut seen = Self::default();
        // The probe may be refused too.
        let is_probed = |seen: &Self| matches!(case.expected, Expected::Refused) || seen.answered.contains(&PROBE);
        while !(is_probed(&seen) && case.expected.is_all_of(&seen)) {
            let frame = match raw.read_frame() {
                Ok(frame) => frame,
                Err(end) => {
                    seen.end = Some(end);
                    break;
                }
            };
            match frame.kind {
                RST_STREAM => seen.resets.push((frame.stream, frame.code())),
                GOAWAY => seen.goaway = Some(frame.code()),
                PING if frame.flags & ACK != 0 => seen.pongs.push(frame.payload.clone()),
                SETTINGS if frame.flags & ACK != 0 => seen.settings += 1,
                _ => {}
            }
            if frame.ends_stream() {
                seen.answered.insert(frame.stream);
            }
        }
        seen
    }

    /// Returns whether this is exactly the expected result.
    pub(crate) fn is(&self, expected: &Expected) -> bool {
        let goes_on = self.end.is_none() && self.goaway.is_none() && self.answered.contains(&PROBE);
        match expected {
            Expected::Goaway(code) => self.goaway == Some(*code) && self.end.as_ref().is_some_and(is_an_end),
            Expected::Refused => self.goaway.is_none() && self.resets.iter().all(|(_, code)| *code == "REFUSED_STREAM"),
            Expected::Closed => self.goaway.is_none() && self.end.as_ref().is_some_and(is_an_end),
            Expected::Reset(stream, code) => goes_on && self.resets == [(*stream, *code)],
            _ => goes_on && self.resets.is_empty() && expected.is_all_of(self),
        }
    }
}

impl Expected {
    /// Returns whether all expected parts are present.
    fn is_all_of(&self, seen: &Seen) -> bool {
        match self {
            Self::Answered(streams) => streams.iter().all(|stream| seen.answered.contains(stream)),
            Self::Ignored => true,
            Self::Pong(payload) => seen.pongs.iter().any(|pong| pong == payload),
            // Including the one for our first SETTINGS.
            Self::Settings => seen.settings >= 2,
            Self::Reset(..) | Self::Refused => !seen.resets.is_empty(),
            Self::Goaway(_) | Self::Closed => false,
        }
    }
}

fn is_an_end(end: &End) -> bool {
    *end != End::Silence
}
