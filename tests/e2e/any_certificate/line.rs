//! An open connection, over which requests are made and their fates read.

use std::net::SocketAddr;

use super::model::Fate;
use testing::tls::http2::{self, Http2};
use testing::tls::{End, Raw, TlsClient};

pub(crate) enum Line {
    Http1(Box<Raw>),
    Http2(Http2),
}

/// Why somebody is no admin, as it is told them.
const REASONS: [&str; 4] = [
    "presented none",
    "does not list this client's certificate",
    "has expired",
    "is not valid yet",
];

impl Line {
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

    /// As many fates as targets.
    pub(crate) fn ask(&mut self, targets: &[String], at_once: bool) -> Vec<Fate> {
        match self {
            Self::Http1(raw) => ask_http1(raw, targets, at_once),
            Self::Http2(http2) if at_once => http2.get_all(targets).into_iter().map(of_http2).collect(),
            Self::Http2(http2) => targets.iter().map(|target| of_http2(http2.get(target))).collect(),
        }
    }
}

fn ask_http1(raw: &mut Raw, targets: &[String], at_once: bool) -> Vec<Fate> {
    let request = |target: &String| format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    let mut fates: Vec<Fate> = Vec::new();
    if at_once && raw.send(targets.iter().map(request).collect::<String>()).is_err() {
        return vec![Fate::Gone; targets.len()];
    }
    for target in targets {
        if fates.last() == Some(&Fate::Gone) {
            // Nothing can come after an end.
            fates.push(Fate::Gone);
            continue;
        }
        let answer = match at_once {
            true => raw.read_answer(),
            false => raw.ask(request(target)),
        };
        fates.push(match answer {
            Ok(answer) => fate(answer.head.status, &answer.text()),
            Err(end) => {
                assert_is_an_end(&end);
                Fate::Gone
            }
        });
    }
    fates
}

fn of_http2(answer: Result<http2::Answer, String>) -> Fate {
    match answer {
        Ok(answer) => fate(answer.status.as_u16(), &String::from_utf8_lossy(&answer.body)),
        Err(error) => {
            assert_ne!(error, "silence");
            Fate::Gone
        }
    }
}

fn fate(status: u16, text: &str) -> Fate {
    match (status, REASONS.iter().find(|reason| text.contains(**reason))) {
        (200, _) if text == "welcome" => Fate::Welcome,
        (403, Some(reason)) => Fate::Refused(reason),
        _ => panic!("an answer that nobody gives: {status} {text}"),
    }
}

fn assert_is_an_end(end: &End) {
    assert!(!matches!(end, End::Silence | End::Unreachable(_)), "{end}");
}
