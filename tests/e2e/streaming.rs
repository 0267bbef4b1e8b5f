//! Bodies are streamed as they arrive, with backpressure from the receiver, and are not buffered as a whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testing::gateway::Gateway;
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted, Then, Wire};
use testing::tls::http2::endless;
use testing::tls::{End, PATIENCE, TlsClient};

const MIB: u64 = 1 << 20;

#[test]
fn a_chunked_upload_is_forwarded_as_it_arrives() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |request, wire| {
        assert_eq!(request.field("transfer-encoding").as_deref(), Some("chunked"));
        let body = piece_by_piece(wire, &sender.lock().unwrap());
        wire.answer("200 OK", "text/plain", body.as_bytes())
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send("POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    for piece in ["one", "two", "three"] {
        raw.send(format!("{:x}\r\n{piece}\r\n", piece.len())).unwrap();
        assert_eq!(
            receiver.recv_timeout(PATIENCE).unwrap(),
            piece,
            "before the next one is sent"
        );
    }
    raw.send("0\r\n\r\n").unwrap();
    assert_eq!(raw.read_answer().unwrap().text(), "onetwothree");
}

/// Reads a chunked body and reports each chunk.
fn piece_by_piece(wire: &mut Wire, saw: &Sender<String>) -> String {
    let mut whole = String::new();
    loop {
        let piece = String::from_utf8(wire.read_chunk().unwrap()).unwrap();
        if piece.is_empty() {
            return whole;
        }
        whole += &piece;
        saw.send(piece).unwrap();
    }
}

#[test]
fn a_response_is_forwarded_as_it_arrives() {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let upstream = Scripted::start(move |_, wire| slowly(wire, &receiver.lock().unwrap()));
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send("GET /1.0/operations/1/wait HTTP/1.1\r\nHost: gate.test\r\n\r\n")
        .unwrap();
    assert_eq!(raw.read_head().unwrap().status, 200, "before there is a body");
    for piece in ["one", "two"] {
        sender.send(piece).unwrap();
        assert_eq!(raw.read_exactly(8).unwrap(), format!("3\r\n{piece}\r\n").as_bytes());
    }
    sender.send("").unwrap();
    assert_eq!(raw.read_exactly(5).unwrap(), b"0\r\n\r\n");

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let request = http2.request("GET", "/1.0/operations/1/wait");
    let mut open = http2.start(request).unwrap();
    for piece in ["one", "two"] {
        sender.send(piece).unwrap();
        assert_eq!(open.read().unwrap().unwrap(), piece);
    }
    sender.send("").unwrap();
    assert_eq!(open.read(), Ok(None));
}

/// Sends the header section at once, and each chunk when the test requests it.
fn slowly(wire: &mut Wire, pieces: &Receiver<&'static str>) -> Then {
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    loop {
        let piece = pieces.recv().unwrap();
        let then = wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        if piece.is_empty() {
            return then;
        }
    }
}

#[test]
fn an_unread_upload_stops_the_client() {
    let upstream = Scripted::start(|_, _| Then::Hold);
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send("POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 1073741824\r\n\r\n")
        .unwrap();
    let taken = raw
        .send_until_stopped(&[0; 64 << 10], 1024 * MIB, Duration::from_secs(2))
        .unwrap();
    // The kernel buffers of two connections store a part.
    assert!(taken < 64 * MIB, "{taken} bytes");
    assert_memory_is_small(&scene.gateway);
}

#[test]
fn an_unread_http2_upload_stops_the_client() {
    let upstream = Scripted::start(|_, _| Then::Hold);
    let scene = ScriptedScene::before(&upstream);

    let taken = Arc::new(AtomicU64::new(0));
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let mut request = http2.request("POST", "/1.0/images");
    *request.body_mut() = endless(&taken);
    std::thread::scope(|scope| {
        let response = scope.spawn(|| http2.ask(request).map(|answer| answer.status.as_u16()));
        upstream.wait_for_requests(1);
        assert_stops(|| taken.load(Ordering::SeqCst));
        assert_memory_is_small(&scene.gateway);
        upstream.cut();
        assert_eq!(response.join().unwrap(), Ok(502));
    });
}

#[test]
fn an_unread_download_stops_incus() {
    let upstream = Scripted::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        while wire.send(vec![0; 64 << 10]) == Then::KeepAlive {}
        Then::Cut
    });
    let scene = ScriptedScene::before(&upstream);
    let export = format!("/1.0/images/{FINGERPRINT}/export");

    for (client, port) in [
        (TlsClient::of(scene.ops()), scene.gateway.admin()),
        (TlsClient::tls13(), scene.gateway.public()),
    ] {
        let before = upstream.sent();
        let mut raw = client.connect(port).unwrap();
        raw.send(format!("GET {export} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        assert_eq!(raw.read_head().unwrap().status, 200);
        assert_stops(|| upstream.sent() - before);
        assert_resumes(&upstream, || drop(raw.read_exactly(32 << 20).unwrap()));
        drop(raw);

        let before = upstream.sent();
        let mut http2 = client.connect_http2(port).unwrap();
        let request = http2.request("GET", &export);
        let mut open = http2.start(request).unwrap();
        assert_eq!(open.status, 200);
        assert_stops(|| upstream.sent() - before);
        assert_resumes(&upstream, || {
            let mut read = 0;
            while read < 32 << 20 {
                read += open.read().unwrap().unwrap().len();
            }
        });
    }
    assert_memory_is_small(&scene.gateway);
}

/// Waits until nothing more has moved for a second.
fn assert_stops(moved: impl Fn() -> u64) {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (moved(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::sleep(Duration::from_millis(20));
        if moved() != last {
            (last, since) = (moved(), Instant::now());
        }
    }
    // The kernel buffers of two connections store a part.
    assert!(last < 64 * MIB, "{last} bytes moved before it stopped");
}

#[test]
fn an_aborted_download_ends_the_request_to_incus() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        while wire.send(vec![0; 64 << 10]) == Then::KeepAlive {}
        sender.lock().unwrap().send(()).unwrap();
        Then::Cut
    });
    let scene = ScriptedScene::before(&upstream);
    let export = format!("/1.0/images/{FINGERPRINT}/export");

    for (client, port) in [
        (TlsClient::of(scene.ops()), scene.gateway.admin()),
        (TlsClient::tls13(), scene.gateway.public()),
    ] {
        let mut raw = client.connect(port).unwrap();
        raw.send(format!("GET {export} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        assert_eq!(raw.read_head().unwrap().status, 200);
        raw.reset();
        receiver.recv_timeout(PATIENCE).expect("an end");

        let mut http2 = client.connect_http2(port).unwrap();
        let request = http2.request("GET", &export);
        let open = http2.start(request).unwrap();
        assert_eq!(open.status, 200);
        drop(open);
        receiver.recv_timeout(PATIENCE).expect("an end");
        assert!(http2.get("/1.0").is_ok(), "the connection's other streams go on");
    }
}

/// The gateway hands a small body to the kernel long before a slow client has received it.
#[test]
fn a_buffered_response_waits_for_a_slow_client() {
    const SIZE: usize = 1 << 20;
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", &[b'x'; SIZE]));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\nheader_timeout = \"1s\"\nidle_timeout = \"1s\"\n".to_owned();
    });
    let export = format!("/1.0/images/{FINGERPRINT}/export");
    let stranger = TlsClient::tls13();

    let mut http2 = stranger.clone().alpn(&["h2"]).connect(scene.gateway.public()).unwrap();
    http2.send(http2_request(&export, SIZE)).unwrap();
    let mut raw = stranger.connect(scene.gateway.public()).unwrap();
    raw.send(format!("GET {export} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
        .unwrap();

    // After one second the gateway sends a PING, and must wait longer than another second for its acknowledgement.
    let while_nothing_is_read = Duration::from_secs(4);
    std::thread::sleep(while_nothing_is_read);
    let answer = raw.read_answer().unwrap();
    assert_eq!((answer.body.len(), answer.whole), (SIZE, Ok(())));
    assert_eq!(raw.end(), End::CloseNotify);

    http2.patience = while_nothing_is_read;
    let (bytes, end) = http2.read_to_end();
    assert_eq!((http2_body(&bytes), end), (SIZE, End::CloseNotify));
}

/// Returns preface, settings and a request of a client with this window.
fn http2_request(path: &str, window: usize) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let window = u32::try_from(window).unwrap().to_be_bytes();
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // GET, https, and as literals :path and :authority (RFC 7541 appendix A).
    let head = [b"\x82\x87\x04".as_slice(), &text(path), b"\x01", &text("gate.test")].concat();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(4, 0, 0, &[&[0, 4], window.as_slice()].concat()),
        &frame(8, 0, 0, &window),
        &frame(1, 5, 1, &head),
    ]
    .concat()
}

/// Returns the number of body bytes in these HTTP/2 frames.
fn http2_body(mut frames: &[u8]) -> usize {
    let mut body = 0;
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        body += if *kind == 0 { length } else { 0 };
        frames = &rest[length..];
    }
    body
}

fn assert_resumes(upstream: &Scripted, read: impl FnOnce()) {
    let before = upstream.sent();
    read();
    assert!(upstream.sent() > before);
}

fn assert_memory_is_small(gateway: &Gateway) {
    let peak = gateway.memory_peak();
    assert!(peak < 64 * MIB, "{peak} bytes");
}
