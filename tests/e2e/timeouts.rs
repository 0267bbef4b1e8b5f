//! Timeouts: the gateway closes connections with slow headers, idle connections, and responses that are not read. A client can
//! see that a response was aborted. Clients that are slow within the limits are served, and administrators have no such limits.

use std::thread;
use std::time::{Duration, Instant};

use testing::gateway::Gateway;
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted, Then};
use testing::tls::{End, PATIENCE, Raw, TlsClient};

const HEAD: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3);
const STALL: Duration = Duration::from_secs(2);
/// As configured in [`scene`], in bytes per second.
const RATE: usize = 256 << 10;
/// Tolerance on a busy machine.
const SPARE: Duration = Duration::from_secs(3);

/// The image is endless; `/1.0/slow` sends single bytes, with pauses longer than any limit.
fn upstream() -> Scripted {
    Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/slow" => {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
            thread::sleep(IDLE + STALL);
            wire.send("b")
        }
        target if target.starts_with("/1.0/large?") => {
            let (_, length) = target.split_once('?').unwrap();
            wire.answer("200 OK", "text/plain", &vec![7; length.parse().unwrap()])
        }
        target if target.ends_with("/export") || target == "/1.0/endless" => {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
            while wire.send([7; 16 << 10]) == Then::KeepAlive {}
            Then::Cut
        }
        _ => wire.answer("200 OK", "text/plain", b"welcome"),
    })
}

fn scene(upstream: &Scripted) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| {
        setup.more =
            "[limits]\nheader_timeout = \"1s\"\nidle_timeout = \"3s\"\nsend_grace = \"2s\"\nmin_send_rate = \"256KiB\"\n[log]\nlevel = \"debug\"\n"
                .to_owned();
    })
}

fn export() -> String {
    format!("/1.0/images/{FINGERPRINT}/export")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n")
}

/// Panics unless this time has passed, within a tolerance.
#[track_caller]
fn assert_after(expected: Duration, begun: Instant) {
    let taken = begun.elapsed();
    // The gateway started its timer slightly earlier.
    let early = Duration::from_millis(200);
    assert!(taken + early >= expected && taken < expected + SPARE, "after {taken:?}");
}

fn connect(gateway: &Gateway) -> Raw {
    TlsClient::tls13().connect(gateway.public()).unwrap()
}

#[test]
fn slow_headers_time_out() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut silent = connect(&scene.gateway);
    let begun = Instant::now();
    let mut dribbling = connect(&scene.gateway);
    dribbling.send("GET /1.0 HTTP/1.1\r\nHost: gate.test\r\n").unwrap();
    assert_eq!(silent.end(), End::CloseNotify);
    assert_after(HEAD, begun);
    assert_eq!(dribbling.end(), End::CloseNotify);
    assert_after(HEAD, begun);

    // The same for a later request, from its first byte; before that, the connection is idle.
    let mut raw = connect(&scene.gateway);
    assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    thread::sleep(HEAD * 3 / 2);
    raw.send("GET /1.0 HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    thread::sleep(HEAD / 2);
    raw.send("Host: gate.test\r\n").unwrap();
    assert_eq!(raw.end(), End::CloseNotify);
    assert_after(HEAD, begun);
}

#[test]
fn idle_connections_are_closed_gracefully() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut raw = connect(&scene.gateway);
    assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    thread::sleep(IDLE * 2 / 3);
    assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    let begun = Instant::now();
    assert_eq!(raw.end(), End::CloseNotify);
    assert_after(IDLE, begun);

    let mut http2 = TlsClient::tls13().connect_http2(scene.gateway.public()).unwrap();
    assert_eq!(http2.get("/1.0").unwrap().status, 200);
    let begun = Instant::now();
    assert!(http2.is_closed_within(PATIENCE));
    assert_after(IDLE, begun);
}

#[test]
fn http2_without_a_preface_or_a_request_times_out() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let client = TlsClient::tls13().alpn(&["h2"]);
    let mut silent = client.connect(scene.gateway.public()).unwrap();
    let begun = Instant::now();
    let mut http2 = TlsClient::tls13().connect_http2(scene.gateway.public()).unwrap();
    silent.end();
    assert_after(HEAD, begun);
    assert!(http2.is_closed_within(PATIENCE));
    assert_after(HEAD, begun);
}

#[test]
fn a_stalled_download_is_reset() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut raw = connect(&scene.gateway);
    raw.send(get(&export())).unwrap();
    raw.read_head().unwrap();
    let begun = Instant::now();
    let logged = scene.gateway.wait_for_log("reads its response too slowly");
    assert_after(STALL, begun);
    assert!(logged.contains("DEBUG"), "it is the client's fault: {logged}");
    assert_eq!(raw.end(), End::Reset);
}

#[test]
fn a_stalled_stream_is_reset_and_its_connection_stays_open() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut http2 = TlsClient::tls13().connect_http2(scene.gateway.public()).unwrap();
    let request = http2.request("GET", &export());
    // hyper's client opens its window only for data that is read.
    let mut stalled = http2.start(request).unwrap();
    stalled.read().unwrap();
    scene.gateway.wait_for_log("reads its response too slowly");
    let error = loop {
        match stalled.read() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it looks whole"),
            Err(error) => break error,
        }
    };
    assert!(error.contains("CANCEL"), "{error}");
    drop(stalled);
    assert_eq!(http2.get("/1.0").unwrap().status, 200);
}

#[test]
fn a_small_response_behind_a_closed_window_is_aborted() {
    const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let upstream = upstream();
    let scene = scene(&upstream);
    let client = TlsClient::tls13().alpn(&["h2"]);
    let mut raw = client.connect(scene.gateway.public()).unwrap();
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(4, "/1.0"), (1, "gate.test")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    // HEADERS, with END_STREAM and END_HEADERS.
    let head = [0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1];
    raw.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS, &head, &block].concat())
        .unwrap();
    scene.gateway.wait_for_log("reads its response too slowly");
}

#[test]
fn a_filter_with_many_classes_is_answered_at_once() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut raw = connect(&scene.gateway);
    assert_eq!(raw.get("/1.0/images").unwrap().head.status, 200);
    // `\pL`, `[\D]`
    for class in ["%5CpL", "%5B%5CD%5D"] {
        let begun = Instant::now();
        let answer = raw.get(&format!("/1.0/images?filter=type+eq+{}", class.repeat(240)));
        assert_eq!(answer.unwrap().head.status, 200);
        assert!(begun.elapsed() < SPARE, "{class} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_client_above_the_minimum_rate_is_served() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let mut raw = connect(&scene.gateway);
    raw.send(get(&export())).unwrap();
    raw.read_head().unwrap();
    // First fast, so that every buffer grows; then at 1.5 times the minimum rate.
    let mut taken = 0;
    while taken < 32 << 20 {
        taken += raw.read_record().unwrap().len();
    }
    let (begun, mut slowly) = (Instant::now(), 0);
    while begun.elapsed() < STALL * 5 {
        slowly += raw.read_record().unwrap().len();
        let due = Duration::from_secs_f64(slowly as f64 / (RATE as f64 * 1.5));
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    assert!(slowly < 2 * RATE * (STALL * 5).as_secs() as usize, "it was not slow");
    // Then at half of the minimum rate.
    let begun = Instant::now();
    slowly = 0;
    let end = loop {
        match raw.read_record() {
            Ok(record) => slowly += record.len(),
            Err(end) => break end,
        }
        let due = Duration::from_secs_f64(slowly as f64 / (RATE as f64 / 2.0));
        thread::sleep(due.saturating_sub(begun.elapsed()));
        assert!(begun.elapsed() < PATIENCE * 2, "it is served for ever");
    };
    assert_eq!(end, End::Reset);
}

#[test]
fn admins_and_incus_have_no_send_timeout() {
    let upstream = upstream();
    let scene = scene(&upstream);
    let ops = TlsClient::of(scene.ops());
    let mut slow = ops.connect(scene.gateway.admin()).unwrap();
    slow.send(get("/1.0/slow")).unwrap();
    let mut slow_http2 = ops.connect_http2(scene.gateway.admin()).unwrap();
    let request = slow_http2.request("GET", "/1.0/slow");
    let mut open = slow_http2.start(request).unwrap();
    let mut stalled = ops.connect(scene.gateway.admin()).unwrap();
    stalled.send(get("/1.0/endless")).unwrap();
    stalled.read_head().unwrap();
    // Some of these are completely in kernel buffers: the connection looks idle.
    let mut unread = Vec::new();
    for length in (1 << 20..5 << 20).step_by(96 << 10) {
        let mut raw = ops.connect(scene.gateway.admin()).unwrap();
        raw.send(get(&format!("/1.0/large?{length}"))).unwrap();
        unread.push((raw, length));
    }

    let answer = slow.read_answer().unwrap();
    assert_eq!((answer.whole, &answer.body[..]), (Ok(()), &b"ab"[..]));
    assert_eq!(open.read().unwrap().unwrap(), "a");
    assert_eq!(open.read().unwrap().unwrap(), "b");
    thread::sleep(IDLE * 2);
    for _ in 0..1000 {
        stalled.read_record().unwrap();
    }
    for (mut raw, length) in unread {
        let answer = raw.read_answer().unwrap();
        assert_eq!((answer.whole, answer.body.len()), (Ok(()), length));
    }
}
