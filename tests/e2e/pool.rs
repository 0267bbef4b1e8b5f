//! Connections to Incus are reused for later requests, and closed before Incus closes them.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Then};
use testing::tls::{PATIENCE, TlsClient};

#[test]
fn sequential_requests_reuse_one_connection() {
    let upstream = Scripted::start(|_, wire| {
        wire.read_body();
        wire.answer("200 OK", "text/plain", b"x")
    });
    let scene = ScriptedScene::before(&upstream);
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for _ in 0..20 {
        assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
        let answer = raw.ask("POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(answer.unwrap().head.status, 200);
    }
    let connections: HashSet<usize> = upstream.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 1);
}

#[test]
fn unsolicited_responses_reach_no_client() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |request, wire| {
        let then = wire.answer("200 OK", "text/plain", request.target().as_bytes());
        std::thread::sleep(Duration::from_millis(5));
        wire.answer("200 OK", "text/plain", b"unsolicited");
        sender.lock().unwrap().send(()).unwrap();
        then
    });
    let scene = ScriptedScene::before(&upstream);
    // A connection stays with one worker, and so with one pool.
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for number in 0..300 {
        let path = format!("/1.0/{number}");
        assert_eq!(raw.get(&path).unwrap().text(), path);
        // It has arrived before the next request is sent.
        receiver.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(upstream.requests().len(), 300);
}

#[test]
fn the_gateway_presents_its_own_certificate_to_incus() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
    assert_eq!(upstream.request().client, Some(scene.setup.local.der()));
}

#[test]
fn idle_connections_are_closed_before_incus_closes_them() {
    // Incus closes after 29 seconds, and no request may be sent at that moment.
    const LIMIT: Duration = Duration::from_secs(25);
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |_, wire| {
        wire.answer("200 OK", "text/plain", b"x");
        let idle_since = Instant::now();
        let more = wire.read(&mut [0]);
        sender
            .lock()
            .unwrap()
            .send((idle_since.elapsed(), more.unwrap_or(0)))
            .unwrap();
        Then::Cut
    });
    let scene = ScriptedScene::before(&upstream);
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
    let (idle, more) = receiver.recv_timeout(LIMIT).expect("still open");
    assert_eq!(more, 0);
    assert!(
        idle > Duration::from_secs(5),
        "closed after {idle:?}, it is of no use to the next request"
    );
}

#[test]
fn after_a_break_unrepeatable_requests_use_new_connections() {
    let upstream = Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/broken" => Then::Cut,
        _ => {
            wire.read_body();
            wire.answer("200 OK", "text/plain", b"x")
        }
    });
    let scene = ScriptedScene::before(&upstream);
    // One worker serves its streams concurrently.
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let several: Vec<_> = (0..5).map(|_| "/1.0/x".to_owned()).collect();
    for answer in http2.get_all(&several) {
        assert_eq!(answer.unwrap().status, 200);
    }
    let post = http2.request("POST", "/1.0/broken");
    assert_eq!(http2.ask(post).unwrap().status, 502);
    let stood = upstream.connections();
    assert!(stood >= 3, "several were to wait: {stood}");
    let post = http2.request("POST", "/1.0/x");
    assert_eq!(http2.ask(post).unwrap().status, 200);
    let last = upstream.requests().pop().unwrap();
    assert_eq!((last.method().as_str(), last.connection >= stood), ("POST", true));
}
