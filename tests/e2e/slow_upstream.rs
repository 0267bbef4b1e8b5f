//! An Incus that lists its images slowly is not overloaded with lists, and strangers do not wait for it. The bytes of an image
//! that was made private are not served because of an old list. An Incus that lists no images any more counts as unavailable.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted, Then, catalogue};
use testing::tls::TlsClient;

/// The time for a list. One list per second would keep Incus busy half of the time.
const LIST: Duration = Duration::from_millis(500);
const BYTES: &[u8] = b"the image's own";

fn incus(is_public: Arc<AtomicBool>) -> Scripted {
    Scripted::start_bare(move |request, wire| {
        let image = json!({
            "architecture": "x86_64",
            "fingerprint": FINGERPRINT,
            "properties": {},
            "public": is_public.load(Ordering::SeqCst),
            "size": BYTES.len(),
            "type": "container",
        });
        let metadata = match request.target().as_str() {
            "/1.0" => json!({ "auth": "trusted", "api_version": "1.0" }),
            "/1.0/images?recursion=1" => {
                std::thread::sleep(LIST);
                json!([image])
            }
            target if target.ends_with("/export") => {
                return wire.answer("200 OK", "application/octet-stream", BYTES);
            }
            _ => image,
        };
        let answer: Value = json!({ "type": "sync", "metadata": metadata });
        wire.answer("200 OK", "application/json", answer.to_string().as_bytes())
    })
}

/// As if its database were locked, or the network lost its responses.
#[test]
fn clients_do_not_wait_when_incus_stops_listing_images() {
    let is_stuck = Arc::new(AtomicBool::new(false));
    let upstream = Scripted::start_bare({
        let is_stuck = Arc::clone(&is_stuck);
        move |request, wire| {
            if request.target() == "/1.0/images?recursion=1" && is_stuck.load(Ordering::SeqCst) {
                return Then::Hold;
            }
            catalogue::answer(request, wire).unwrap_or_else(|| wire.answer("200 OK", "text/plain", b"x"))
        }
    });
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let before = stranger.get("/1.0/images").unwrap();
    assert_eq!(before.head.status, 200);

    is_stuck.store(true, Ordering::SeqCst);
    let stuck = Instant::now();
    while stuck.elapsed() < Duration::from_secs(8) {
        let sent_at = Instant::now();
        let answer = stranger.get("/1.0/images").unwrap();
        assert_eq!((answer.head.status, answer.json()), (200, before.json()));
        assert!(
            sent_at.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            sent_at.elapsed()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // The image may have been published just now.
    assert_eq!(stranger.get("/1.0/images/aliases/later").unwrap().head.status, 503);
    scene
        .gateway
        .wait_for_log("Incus took longer than 3 s to list its images");
}

#[test]
fn a_slow_list_delays_no_client_and_serves_nothing_private() {
    let is_public = Arc::new(AtomicBool::new(true));
    let upstream = incus(Arc::clone(&is_public));
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let export = format!("/1.0/images/{FINGERPRINT}/export");
    assert_eq!(
        stranger.get("/1.0/images").unwrap().json()["metadata"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let listed = || {
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.target().contains("recursion"))
            .count()
    };

    // Until the list is older than `public.max_age`, and a while longer.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let sent_at = Instant::now();
        assert_eq!(stranger.get("/1.0/images").unwrap().head.status, 200);
        assert!(sent_at.elapsed() < LIST / 2, "it took {:?}", sent_at.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(listed() <= 2, "Incus was asked for {} lists", listed());
    assert_eq!(stranger.get(&export).unwrap().body, BYTES);

    // The list may be outdated; an export is checked with Incus now.
    is_public.store(false, Ordering::SeqCst);
    assert_eq!(stranger.get(&export).unwrap().head.status, 404);
}

/// Each download costs Incus a handshake: a crowd that begins them all at once would keep it from administrators.
#[test]
fn incus_begins_few_downloads_at_once() {
    const CLIENTS: usize = 40;
    const BEGINNING: Duration = Duration::from_millis(100);
    let (beginning, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = Scripted::start({
        let most = Arc::clone(&most);
        move |_, wire| {
            most.fetch_max(beginning.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(BEGINNING);
            beginning.fetch_sub(1, Ordering::SeqCst);
            wire.answer("200 OK", "application/octet-stream", BYTES)
        }
    });
    // With a fresh list, Incus is asked for nothing but downloads.
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more_public = "max_age = \"1h\"".to_owned());
    let export = format!("/1.0/images/{FINGERPRINT}/export");
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
                assert_eq!(stranger.get(&export).unwrap().body, BYTES);
            });
        }
    });
    let workers = std::thread::available_parallelism().unwrap().get();
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 4 * workers, "{most} downloads, with {workers} workers");
}

#[test]
fn a_crowd_of_downloads_leaves_turns_to_other_networks() {
    const CROWD: usize = 100;
    const BEGINNING: Duration = Duration::from_millis(20);
    let (gate, begun) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
    let upstream = Scripted::start({
        let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
        move |_, wire| {
            begun.fetch_add(1, Ordering::SeqCst);
            drop(gate.read());
            std::thread::sleep(BEGINNING);
            wire.answer("200 OK", "application/octet-stream", BYTES)
        }
    });
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "max_age = \"1h\"\nproxy_protocol_from = \"127.0.0.1\"".to_owned();
    });
    let download = |from: String| {
        let from = from.parse().unwrap();
        let mut raw = TlsClient::tls13()
            .connect_announced(from, scene.gateway.public())
            .unwrap();
        raw.send(format!(
            "GET /1.0/images/{FINGERPRINT}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n"
        ))
        .unwrap();
        raw
    };
    let closed = gate.write().unwrap();
    // From the /64 prefixes of one /56.
    let crowd: Vec<_> = (0..CROWD).map(|n| download(format!("2001:db8:0:{n:x}::1"))).collect();
    let mut other = download("2001:db8:0:100::1".to_owned());
    drop(closed);
    assert_eq!(other.read_answer().unwrap().body, BYTES);
    let begun = begun.load(Ordering::SeqCst);
    assert!(begun < CROWD / 2, "{begun} downloads have begun before");
    for mut raw in crowd {
        assert_eq!(raw.read_answer().unwrap().body, BYTES);
    }
}
