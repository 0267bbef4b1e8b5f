//! A program on Incus's port sends too little, too much, or what Incus never sends: clients are told that Incus is unavailable,
//! and no client gets data that was not a response to it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use testing::certificates::Certificates;
use testing::gateway::{Gateway, PATIENCE};
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::{FINGERPRINT, Scripted, Then};
use testing::tls::TlsClient;
use testing::tls::http1::Answer;

/// The longest time that a client waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Larger than the header section of any response of Incus.
const TOO_LARGE: usize = 1 << 20;

#[track_caller]
fn assert_unavailable(answer: &Answer, what: &str) {
    assert!(matches!(answer.head.status, 502 | 503), "{what}: {}", answer.head.line);
    let json = answer.json();
    assert_eq!(
        (&json["type"], &json["error_code"]),
        (&"error".into(), &answer.head.status.into())
    );
    assert_eq!(answer.whole, Ok(()), "{what}");
}

#[test]
fn a_truncated_response_header_gets_502() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n";
    const ENDS: [Then; 3] = [Then::Close, Then::Cut, Then::Reset];
    let upstream = Scripted::start(|request, wire| {
        let target = request.target();
        let mut parts = target.rsplit('/').map(|part| part.parse::<usize>().unwrap_or(0));
        let (end, length) = (parts.next().unwrap(), parts.next().unwrap());
        wire.send(&HEAD[..length]);
        ENDS[end]
    });
    let scene = ScriptedScene::before(&upstream);
    let mut http1 = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    for length in 0..HEAD.len() {
        let end = length % ENDS.len();
        let path = format!("/1.0/x/{length}/{end}");
        let begun = Instant::now();
        assert_unavailable(&http1.get(&path).unwrap(), &path);
        let answer = http2.get(&path).unwrap();
        assert_eq!((answer.status.as_u16(), answer.whole), (502, Ok(())), "{path}");
        assert!(begun.elapsed() < LIMIT, "{path}");
    }
}

#[test]
fn a_response_with_ambiguous_framing_gets_502() {
    const FRAMINGS: [&str; 4] = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 10",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ];
    let upstream = Scripted::start(|request, wire| {
        let target = request.target();
        // The export of the image, too.
        let framing = target.rsplit('/').next().unwrap().parse().unwrap_or(0);
        let framing: &str = FRAMINGS[framing];
        wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n"));
        Then::Reset
    });
    let scene = ScriptedScene::before(&upstream);
    let mut http1 = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    for (number, framing) in FRAMINGS.iter().enumerate() {
        let path = format!("/1.0/x/{number}");
        assert_unavailable(&http1.get(&path).unwrap(), framing);
        assert_eq!(http2.get(&path).unwrap().status.as_u16(), 502, "{framing}");
    }
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let export = format!("/1.0/images/{FINGERPRINT}/export");
    assert_unavailable(&stranger.get(&export).unwrap(), "an export");
}

#[test]
fn data_after_a_response_reaches_no_client() {
    const BEHIND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nloose";
    // The response ends here.
    const ANSWERS: [(&str, &str, &str); 5] = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none", "one"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
            "one",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\n", ""),
    ];
    let upstream = Scripted::start(|request, wire| {
        let target = request.target();
        let Some(number) = target.strip_prefix("/1.0/more/") else {
            return wire.answer("200 OK", "text/plain", b"own");
        };
        let (number, at_once) = number.split_once('/').unwrap();
        let (_, answer, _) = ANSWERS[number.parse::<usize>().unwrap()];
        match at_once {
            "true" => wire.send(format!("{answer}{BEHIND}")),
            _ => {
                wire.send(answer);
                wire.send(BEHIND)
            }
        }
    });
    let scene = ScriptedScene::before(&upstream);
    for (number, (method, _, body)) in ANSWERS.iter().enumerate() {
        // In HTTP/1.1, data that arrives after the next request was sent is a response to that request.
        for at_once in [true] {
            // A connection stays with one worker, and so with one pool.
            let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
            for _ in 0..5 {
                raw.send(format!(
                    "{method} /1.0/more/{number}/{at_once} HTTP/1.1\r\nHost: gate.test\r\n\r\n"
                ))
                .unwrap();
                let head = raw.read_head().unwrap();
                if *method == "GET" {
                    assert_eq!(raw.read_body_of(&head).unwrap(), body.as_bytes());
                }
                let next = raw.get("/1.0/next").unwrap();
                assert_eq!(
                    (next.head.status, next.text().as_str()),
                    (200, "own"),
                    "{number}, {at_once}"
                );
            }
        }
    }
}

#[test]
fn an_endless_response_header_is_rejected() {
    let upstream = Scripted::start(|request, wire| {
        let line = match request.target().rsplit('/').next() {
            Some("few") => format!("X: {}\r\n", "x".repeat(TOO_LARGE)),
            _ => "X: x\r\n".repeat(TOO_LARGE / 6),
        };
        wire.send(format!("HTTP/1.1 200 OK\r\n{line}"));
        Then::Hold
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for path in ["/1.0/few", "/1.0/many"] {
        let begun = Instant::now();
        assert_unavailable(&admin.get(path).unwrap(), path);
        assert!(begun.elapsed() < LIMIT, "{path}");
    }
}

#[test]
fn an_endless_catalogue_is_rejected() {
    /// Twice the gateway's limit, because the buffer grows.
    const MOST: u64 = 600 << 20;
    let upstream = Scripted::start_bare(|request, wire| {
        if request.target() != "/1.0/images?recursion=1" {
            let server = br#"{"type":"sync","metadata":{"auth":"trusted","api_version":"1.0"}}"#;
            return wire.answer("200 OK", "application/json", server);
        }
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
        while wire.send(&chunk) == Then::KeepAlive {}
        Then::Cut
    });
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_unavailable(&stranger.get("/1.0/images").unwrap(), "a list without an end");
    // The limit is a quarter of a gibibyte.
    let deadline = Instant::now() + PATIENCE * 5;
    while !scene.gateway.log().iter().any(|line| line.contains("larger than")) {
        assert!(Instant::now() < deadline, "{:?}", scene.gateway.log());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(scene.gateway.memory_peak() < MOST, "{}", scene.gateway.memory_peak());
}

#[test]
fn an_upstream_without_tls_is_rejected() {
    type Says = fn() -> Vec<u8>;
    let says: [(&str, Says); 6] = [
        ("HTTP in the clear", || {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()
        }),
        ("SSH", || b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("an alert", || b"\x15\x03\x03\0\x02\x02\x28".to_vec()),
        ("a record without an end", || {
            [b"\x16\x03\x03\xff\xff".to_vec(), vec![2; 70_000]].concat()
        }),
        ("nothing, and an end", Vec::new),
        ("nothing, without an end", Vec::new),
    ];
    for (what, says) in says {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let certificates = Certificates::new();
        let pin = certificates.server("incus").certificate;
        let url = format!("https://{}", listener.local_addr().unwrap());
        let setup = Setup::new(&certificates, &url, &pin);
        thread::spawn(move || {
            let mut open = Vec::new();
            for tcp in listener.incoming().map_while(Result::ok) {
                let mut tcp = tcp;
                // Data sent before any request is no response either.
                let _ = tcp.write_all(&says());
                if what.ends_with("without an end") {
                    open.push(tcp);
                } else {
                    let _ = tcp.shutdown(std::net::Shutdown::Write);
                    let _ = tcp.read(&mut [0; 4096]);
                }
            }
        });
        let gateway = Gateway::start(&setup.text());
        let mut admin = TlsClient::of(&setup.admins[0].1).connect(gateway.admin()).unwrap();
        let begun = Instant::now();
        assert_unavailable(&admin.get("/1.0").unwrap(), what);
        assert!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
        for path in ["/1.0".to_owned(), format!("/1.0/images/{FINGERPRINT}/export")] {
            let begun = Instant::now();
            let mut stranger = TlsClient::tls13().connect(gateway.public()).unwrap();
            assert_unavailable(&stranger.get(&path).unwrap(), what);
            assert!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
        }
    }
}
