//! An open connection, which sends requests and classifies the outcomes.

use std::net::SocketAddr;

use super::model::Outcome;
use testing::tls::http2::{self, Http2};
use testing::tls::{End, Raw, TlsClient};

pub(crate) enum Connection {
    Http1(Box<Raw>),
    Http2(Http2),
}

/// The reasons for a rejection, as sent to the client.
const REASONS: [&str; 4] = [
    "presented none",
    "does not list this client's certificate",
    "has expired",
    "is not valid yet",
];

impl Connection {
    /// `None` if the handshake failed.
    pub(crate) fn open(client: &TlsClient, admin: SocketAddr, is_http2: bool) -> Option<Self> {
        match is_http2 {
            true => client.connect_http2(admin).ok().map(Self::Http2),
            false => {
                let raw = client.connect(admin).inspect_err(assert_is_an_end).ok()?;
                assert!(!raw.is_resumed(), "a session was resumed on the admin port");
                Some(Self::Http1(Box::new(raw)))
            }
        }
    }

    /// Returns one outcome per target.
    pub(crate) fn ask(&mut self, targets: &[String], at_once: bool) -> Vec<Outcome> {
        match self {
            Self::Http1(raw) => ask_http1(raw, targets, at_once),
            Self::Http2(http2) if at_once => http2.get_all(targets).into_iter().map(of_http2).collect(),
            Self::Http2(http2) => targets.iter().map(|target| of_http2(http2.get(target))).collect(),
        }
    }
}

fn ask_http1(raw: &mut Raw, targets: &[String], at_once: bool) -> Vec<Outcome> {
    let request = |target: &String| format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    let mut outcomes: Vec<Outcome> = Vec::new();
    if at_once && raw.send(targets.iter().map(request).collect::<String>()).is_err() {
        return vec![Outcome::Gone; targets.len()];
    }
    for target in targets {
        if outcomes.last() == Some(&Outcome::Gone) {
            // No response can follow the end of the connection.
            outcomes.push(Outcome::Gone);
            continue;
        }
        let answer = match at_once {
            true => raw.read_answer(),
            false => raw.ask(request(target)),
        };
        outcomes.push(match answer {
            Ok(answer) => outcome(answer.head.status, &answer.text()),
            Err(end) => {
                assert_is_an_end(&end);
                Outcome::Gone
            }
        });
    }
    outcomes
}

fn of_http2(answer: Result<http2::Answer, String>) -> Outcome {
    match answer {
        Ok(answer) => outcome(answer.status.as_u16(), &String::from_utf8_lossy(&answer.body)),
        Err(error) => {
            assert_ne!(error, "silence");
            Outcome::Gone
        }
    }
}

fn outcome(status: u16, text: &str) -> Outcome {
    match (status, REASONS.iter().find(|reason| text.contains(**reason))) {
        (200, _) if text == "served" => Outcome::Served,
        (403, Some(reason)) => Outcome::Refused(reason),
        _ => panic!("an answer that nobody gives: {status} {text}"),
    }
}

fn assert_is_an_end(end: &End) {
    assert!(!matches!(end, End::Silence | End::Unreachable(_)), "{end}");
}
