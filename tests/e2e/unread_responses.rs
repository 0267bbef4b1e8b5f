//! Unread responses use little memory: each address has a budget, and so do outdated lists of images.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;
use testing::gateway::PATIENCE;
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame};
use testing::tls::{End, Raw, TlsClient};

const HOSTILE: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [192, 0, 2, 2];
const FILTERED: &str = "/1.0/images?recursion=1&filter=public+eq+true";

/// Returns the fingerprint of the image that identifies the version.
fn of_version(version: usize) -> String {
    format!("f{version:063x}")
}

/// Starts an upstream with images with descriptions of this length, and a small one that identifies the version.
fn incus(images: usize, length: usize, version: Arc<AtomicUsize>) -> Scripted {
    Scripted::start_bare(move |request, wire| {
        let version = version.load(Ordering::SeqCst);
        let image = |fingerprint: String, length: usize| {
            json!({
                "architecture": "x86_64",
                "fingerprint": fingerprint,
                "properties": { "description": "x".repeat(length) },
                "public": true,
                "size": 1_000,
                "type": "container",
            })
        };
        let metadata = match request.target().as_str() {
            "/1.0" => json!({ "auth": "trusted", "api_version": "1.0" }),
            _ => {
                let large = (1..images).map(|number| image(format!("{number:064x}"), length));
                let small = std::iter::once(image(of_version(version), 1));
                json!(large.chain(small).collect::<Vec<_>>())
            }
        };
        let answer = json!({ "type": "sync", "metadata": metadata });
        wire.answer("200 OK", "application/json", answer.to_string().as_bytes())
    })
}

fn scene(upstream: &Scripted) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| {
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more = "[limits]\nrequests_per_second = 1000\nsend_grace = \"5m\"\n".to_owned();
    })
}

fn connect(scene: &ScriptedScene, client: &TlsClient, from: [u8; 4]) -> Raw {
    let from = IpAddr::from(from);
    client.connect_announced(from, scene.gateway.public()).unwrap()
}

#[test]
fn unread_http2_responses_stay_within_a_budget() {
    const CONNECTIONS: usize = 24;
    const STREAMS: u32 = 32;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let upstream = incus(20, 2_000, Arc::default());
    let scene = scene(&upstream);
    let client = TlsClient::tls13().alpn(&["h2"]);
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.test"),
        (":path", FILTERED),
    ];
    let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    let mut frames = [PREFACE, &frame(SETTINGS, 0, 0, &window)].concat();
    for number in 0..STREAMS {
        frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block(fields)));
    }
    let ask = |from| {
        let mut raw = connect(&scene, &client, from);
        raw.send(&frames).unwrap();
        raw
    };
    let mut modest = ask(OTHER);
    let mut crowd: Vec<Raw> = (0..CONNECTIONS).map(|_| ask(HOSTILE)).collect();

    scene.gateway.wait_for_log("unread responses use too much memory");
    scene.gateway.wait_for_log("aborted_by=limit");
    // Those that use the most memory are closed first; scheduling decides which ones.
    let is_reset = |raw: &mut Raw| raw.end() == End::Reset;
    assert!(crowd.iter_mut().any(is_reset), "somebody of the address goes");
    // Other clients are not affected.
    let mut other = connect(&scene, &TlsClient::tls13(), OTHER);
    let answer = other.get(FILTERED).unwrap();
    assert_eq!((answer.head.status, answer.whole.clone()), (200, Ok(())));
    assert_eq!(answer.json()["metadata"].as_array().unwrap().len(), 20);
    modest.patience = Duration::from_millis(200);
    assert_eq!(modest.end(), End::Silence, "32 unread answers are let be");
    // Connections within the budget stay open.
    let is_kept = |raw: &mut Raw| {
        raw.patience = Duration::from_millis(200);
        raw.end() == End::Silence
    };
    assert!(crowd.iter_mut().any(is_kept), "the address keeps its budget");
}

#[test]
fn readers_of_the_oldest_lists_are_reset_over_budget() {
    let version = Arc::new(AtomicUsize::new(0));
    // A list of 6 MB: two old ones exceed the budget.
    let upstream = incus(20, 300_000, Arc::clone(&version));
    let scene = scene(&upstream);
    let client = TlsClient::tls13();
    let begin = |path: &str| {
        let mut raw = connect(&scene, &client, HOSTILE);
        SockRef::from(raw.tcp()).set_recv_buffer_size(64 << 10).unwrap();
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        assert_eq!(raw.read_head().unwrap().status, 200);
        raw
    };
    let mut other = connect(&scene, &client, OTHER);
    let mut publish = || {
        let latest = version.fetch_add(1, Ordering::SeqCst) + 1;
        // A debug build takes seconds for such a list.
        let deadline = Instant::now() + 6 * PATIENCE;
        let path = format!("/1.0/images/{}", of_version(latest));
        while other.get(&path).unwrap().head.status != 200 {
            assert!(Instant::now() < deadline, "what is published is not seen");
            thread::sleep(Duration::from_millis(100));
        }
    };
    publish();
    for path in [FILTERED, "/1.0/images?recursion=1"] {
        let seen = scene.gateway.log_length();
        let mut oldest = begin(path);
        publish();
        let mut old = begin(path);
        publish();
        assert_eq!(oldest.end(), End::Reset, "{path}");
        scene.gateway.wait_for_log_after(seen, "aborted_by=limit");
        let mut latest = begin(path);
        for reader in [&mut old, &mut latest] {
            // More than was in transit before.
            reader.read_exactly(2 << 20).unwrap();
        }
    }
}
