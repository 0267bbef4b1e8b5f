//! A rejection reaches a client that is still sending, and the gateway does not keep receiving from a rejected client.

use std::time::{Duration, Instant};

use testing::client::Curl;
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::{End, PATIENCE, Raw, TlsClient};

/// What a client may have sent before it reads the response.
const BODY: usize = 200 << 10;
/// More than the gateway and the kernel on both sides can buffer.
const ENDLESS: u64 = 64 << 20;

fn scene() -> ScriptedScene {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    ScriptedScene::before(&upstream)
}

/// Returns a connection to each port that gets a rejection, and its status.
fn strangers(scene: &ScriptedScene) -> [(Raw, u16); 2] {
    let connect = |port| TlsClient::tls13().connect(port).unwrap();
    [
        (connect(scene.gateway.admin()), 403),
        (connect(scene.gateway.public()), 405),
    ]
}

fn post(length: u64) -> String {
    format!("POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_client_that_reads_after_sending_gets_the_rejection() {
    let scene = scene();
    let request = [post(BODY as u64).as_bytes(), &vec![b'x'; BODY]].concat();
    for _ in 0..3 {
        for (mut stranger, status) in strangers(&scene) {
            let answer = stranger.ask(request.as_slice()).unwrap();
            assert_eq!(answer.head.status, status);
            assert_eq!(answer.json()["error_code"], status);
        }
    }
    // On the public port the connection stays open if the body is small.
    let [_, (mut stranger, status)] = strangers(&scene);
    for _ in 0..3 {
        assert_eq!(stranger.ask(request.as_slice()).unwrap().head.status, status);
    }
}

#[test]
fn an_endless_upload_to_the_admin_port_is_rejected() {
    let scene = scene();
    let [admin, _] = strangers(&scene);
    send_without_end(admin);
}

#[test]
fn an_endless_upload_to_the_public_port_is_rejected() {
    let scene = scene();
    let [_, public] = strangers(&scene);
    send_without_end(public);
}

fn send_without_end((mut stranger, status): (Raw, u16)) {
    stranger.send(post(ENDLESS)).unwrap();
    let begun = Instant::now();
    let sent = stranger.send_until_stopped(&[b'x'; 16 << 10], ENDLESS, Duration::from_millis(500));
    assert!(sent.unwrap() < ENDLESS / 4, "{status}");
    let answer = stranger.read_answer().unwrap();
    assert_eq!(answer.head.status, status);
    assert_eq!(answer.json()["error_code"], status);
    let (rest, end) = stranger.read_to_end();
    assert!(rest.is_empty() && end != End::Silence, "{end}");
    assert!(begun.elapsed() < PATIENCE / 2, "closed after {:?}", begun.elapsed());
}

#[test]
fn expect_100_continue_gets_the_rejection() {
    let scene = scene();
    for (mut stranger, status) in strangers(&scene) {
        let head = post(BODY as u64).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        // Not 100.
        assert_eq!(stranger.ask(head).unwrap().head.status, status);
    }
}

#[test]
fn unread_responses_do_not_accumulate() {
    const REST: &str = "Host: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before(&upstream);
    let length = "Host: gate.test\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na";
    for request in [
        format!("HEAD / HTTP/1.1\r\n{REST}"),
        format!("HEAD /1.0 HTTP/1.1\r\n{REST}"),
        format!("HEAD / HTTP/1.1\r\n{length}"),
        format!("GET /1.0 HTTP/1.1\r\nIf-None-Match: *\r\n{REST}"),
    ] {
        let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
        // The gateway may close the connection before the last one.
        let _ = stranger.send(request.repeat(500));
        let head = stranger.read_head().unwrap();
        assert_eq!(head.field("connection"), Some("close"), "{request}");
        assert!(stranger.read_to_end().0.is_empty(), "another answer to {request}");
    }
}

#[test]
fn curl_gets_the_rejection_over_http1_and_http2() {
    let scene = scene();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    std::fs::write(&file, vec![0; 32 << 20]).unwrap();
    let file = file.to_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        for (url, status) in [(scene.gateway.admin_url(), 403), (scene.gateway.public_url(), 405)] {
            let upload = Curl::get(format!("{url}/1.0/images")).method("POST").header("Expect:");
            let answer = upload.with([version, "--upload-file", file]).answer();
            assert_eq!(answer.status, status, "{version} {url}");
            assert_eq!(answer.json()["error_code"], status, "{version} {url}");
        }
    }
}
