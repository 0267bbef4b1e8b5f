//! A faulty Incus: clients get an error within five seconds, the log says why, and service resumes by itself.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing::certificates::Certificates;
use testing::images::Images;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::{FINGERPRINT, Request, Scripted, Then};
use testing::tls::TlsClient;
use testing::tls::http1::Answer;

/// The longest time that a client waits.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns the response, and panics if it took too long.
#[track_caller]
fn in_time(ask: impl FnOnce() -> Answer) -> Answer {
    let begun = Instant::now();
    let answer = ask();
    assert!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    answer
}

/// Panics unless this is the error for an unavailable Incus, in Incus's format.
#[track_caller]
fn assert_unavailable(answer: &Answer) {
    assert!(matches!(answer.head.status, 502 | 503), "{}", answer.head.line);
    let json = answer.json();
    assert_eq!(json["type"], "error");
    assert_eq!(json["error_code"], answer.head.status);
    assert_eq!(json["status_code"], 0);
    assert_eq!(json["metadata"], Value::Null);
    assert!(json["error"].as_str().is_some_and(|error| !error.is_empty()), "{json}");
    assert_eq!(answer.whole, Ok(()));
}

fn export(fingerprint: &str) -> String {
    format!("/1.0/images/{fingerprint}/export")
}

#[test]
fn service_resumes_after_incus_was_unavailable() {
    let scene = Scene::start();
    let images = Images::new();
    let image = images.split("published");
    image.import(&scene.incus, &["--public", "--alias", "published"]);
    let public = |target: &str| {
        TlsClient::tls13()
            .connect(scene.gateway.public())
            .unwrap()
            .get(target)
            .unwrap()
    };
    let admin = |target: &str| {
        TlsClient::of(scene.ops())
            .connect(scene.gateway.admin())
            .unwrap()
            .get(target)
            .unwrap()
    };
    // The alias comes first, because an unknown one makes the gateway fetch the list.
    let metadata = ["/1.0/images/aliases/published", "/1.0/images?recursion=1", "/1.0"];
    let before: Vec<Value> = metadata.iter().map(|target| public(target).json()).collect();
    assert_eq!(public(&export(&image.fingerprint)).head.status, 200);
    assert_eq!(admin("/1.0").json()["metadata"]["auth"], "trusted");

    scene.incus.stop();
    assert_unavailable(&in_time(|| admin("/1.0")));
    assert_unavailable(&in_time(|| public(&export(&image.fingerprint))));
    scene.gateway.wait_for_log("cannot connect to Incus");
    for (target, before) in metadata.iter().zip(&before) {
        assert_eq!(in_time(|| public(target)).json(), *before, "{target}");
    }

    scene.incus.start_again();
    assert_eq!(admin("/1.0").json()["metadata"]["auth"], "trusted");
    assert_eq!(public(&export(&image.fingerprint)).head.status, 200);
    scene.gateway.wait_for_log("Incus is available again");
    // A newly published image is found: the catalogue is refreshed again too.
    let image = images.split("published later");
    image.import(&scene.incus, &["--public", "--alias", "later"]);
    let deadline = Instant::now() + LIMIT;
    while public("/1.0/images/aliases/later").json()["metadata"]["target"] != image.fingerprint {
        assert!(Instant::now() < deadline, "what was published later is not found");
    }
}

fn reload(scene: &Scene) {
    let before = scene.gateway.log().len();
    scene.gateway.reconfigure(&scene.setup.text());
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log_after(before, "reloaded");
}

#[test]
fn a_reload_without_incus_keeps_the_list_of_images() {
    let mut scene = Scene::start();
    let images = Images::new();
    images.split("published").import(&scene.incus, &["--public"]);
    let list = |scene: &Scene| {
        let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
        in_time(|| stranger.get("/1.0/images?recursion=1").unwrap())
    };
    scene.refresh();
    let before = list(&scene);
    assert_eq!(before.json()["metadata"].as_array().unwrap().len(), 1);
    scene.incus.stop();
    assert_eq!(list(&scene).json(), before.json());

    scene.setup.admins.clear();
    reload(&scene);
    assert_eq!(list(&scene).json(), before.json());
    // There is no list for another selection.
    "all".clone_into(&mut scene.setup.images);
    reload(&scene);
    assert_unavailable(&list(&scene));
}

#[test]
fn without_incus_unknown_names_get_503_and_not_404() {
    let scene = Scene::start();
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let names = [
        "/1.0/images/aliases/later".to_owned(),
        "/1.0/images/abcdef".to_owned(),
        export(FINGERPRINT),
    ];
    for name in &names {
        assert_eq!(stranger.get(name).unwrap().head.status, 404);
    }
    scene.incus.stop();
    // It may have been published just before Incus stopped.
    for name in &names {
        assert_unavailable(&in_time(|| stranger.get(name).unwrap()));
    }
}

#[test]
fn without_incus_at_the_start_clients_get_an_error() {
    let scene = Scene::start();
    scene.incus.stop();
    let gateway = testing::gateway::Gateway::start(&scene.setup.text());
    for target in ["/1.0", "/1.0/images", "/1.0/images/aliases/x"] {
        let mut raw = TlsClient::tls13().connect(gateway.public()).unwrap();
        assert_unavailable(&in_time(|| raw.get(target).unwrap()));
    }
    let mut http2 = TlsClient::tls13().connect_http2(gateway.public()).unwrap();
    let answer = http2.get("/1.0").unwrap();
    assert!(matches!(answer.status.as_u16(), 502 | 503));
    assert_eq!(answer.json()["error_code"], answer.status.as_u16());
}

#[test]
fn requests_to_a_hanging_incus_time_out() {
    let scene = Scene::start();
    let images = Images::new();
    let image = images.split("published");
    image.import(&scene.incus, &["--public"]);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let metadata = format!("/1.0/images/{}", image.fingerprint);
    assert_eq!(stranger.get(&metadata).unwrap().head.status, 200);

    // The admin's requests have left no idle connection to Incus yet, so these are new ones.
    let paused = scene.incus.pause();
    assert_unavailable(&in_time(|| admin.get("/1.0").unwrap()));
    assert_unavailable(&in_time(|| stranger.get(&export(&image.fingerprint)).unwrap()));
    assert_eq!(in_time(|| stranger.get(&metadata).unwrap()).head.status, 200);
    drop(paused);
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);
}

#[test]
fn reused_connections_to_a_hanging_incus_time_out() {
    let scene = Scene::start();
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);

    let paused = scene.incus.pause();
    assert_unavailable(&in_time(|| admin.get("/1.0").unwrap()));
    drop(paused);
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);
}

/// This differs from a hanging Incus, which accepts no new connection.
#[test]
fn slow_responses_of_incus_do_not_time_out() {
    let upstream = Scripted::start(|request, wire| {
        if request.target() == "/1.0/slow" {
            std::thread::sleep(LIMIT);
        }
        wire.answer("200 OK", "text/plain", b"x")
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0/quick").unwrap().head.status, 200);
    let begun = Instant::now();
    assert_eq!(admin.get("/1.0/slow").unwrap().head.status, 200);
    assert!(begun.elapsed() >= LIMIT);
    let sent = upstream
        .requests()
        .iter()
        .filter(|request| request.target() == "/1.0/slow")
        .count();
    assert_eq!(sent, 1);
}

#[test]
fn an_export_without_a_response_header_times_out() {
    let upstream = Scripted::start(|_, _| Then::Hold);
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_unavailable(&in_time(|| stranger.get(&export(FINGERPRINT)).unwrap()));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_malformed_upload_is_the_clients_error() {
    let upstream = Scripted::start(|_, wire| match wire.read_body() {
        Some(_) => wire.answer("200 OK", "text/plain", b"x"),
        None => Then::Cut,
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let request = "POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    assert_eq!(admin.ask(request).unwrap().head.status, 400);
    assert!(
        !scene.gateway.log().iter().any(|line| line.contains("WARN")),
        "{:?}",
        scene.gateway.log()
    );
}

#[test]
fn an_upstream_response_that_is_not_http_gets_502() {
    const NONSENSE: [&str; 5] = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 banana\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "",
    ];
    let upstream = Scripted::start(|request, wire| {
        let number = request
            .target()
            .split_once('?')
            .map_or(0, |(_, number)| number.parse().unwrap());
        wire.send(NONSENSE[number]);
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for number in 0..NONSENSE.len() {
        assert_unavailable(&in_time(|| admin.get(&format!("/1.0/x?{number}")).unwrap()));
    }
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_unavailable(&in_time(|| stranger.get(&export(FINGERPRINT)).unwrap()));
}

#[test]
fn a_catalogue_that_is_not_json_is_rejected() {
    let upstream = Scripted::start_bare(|_, wire| wire.answer("200 OK", "text/html", b"<p>It works!</p>"));
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    for target in ["/1.0", "/1.0/images", &export(FINGERPRINT)] {
        assert_unavailable(&in_time(|| stranger.get(target).unwrap()));
    }
    scene
        .gateway
        .wait_for_log("check that upstream.url is the address of Incus");
}

#[test]
fn an_upstream_with_another_certificate_is_rejected() {
    let certificates = Certificates::new();
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let other = certificates.server("other").certificate;
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.pin = Some(other));

    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_unavailable(&in_time(|| admin.get("/1.0").unwrap()));
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_unavailable(&in_time(|| stranger.get("/1.0").unwrap()));
    let line = scene.gateway.wait_for_log("pinned");
    assert!(line.contains(&upstream.address().to_string()), "{line}");
    assert_eq!(upstream.connections(), 0, "a handshake was completed");
}

#[test]
fn a_renewed_certificate_of_incus_is_reloaded() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // First the server, then the file.
    let renewed = upstream.renew();
    assert_unavailable(&in_time(|| admin.get("/1.0/x").unwrap()));
    fs::write(upstream.certificate(), renewed).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // First a file that is being written, then the server, then the rest of the file.
    fs::write(upstream.certificate(), "-----BEGIN CERT").unwrap();
    let renewed = upstream.renew();
    assert_unavailable(&in_time(|| admin.get("/1.0/x").unwrap()));
    fs::write(upstream.certificate(), renewed).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // The catalogue may have seen the wrong certificate, and retries.
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let deadline = Instant::now() + LIMIT;
    while stranger.get("/1.0").unwrap().head.status != 200 {
        assert!(Instant::now() < deadline, "the catalogue is still away");
    }
}

#[test]
fn an_upstream_without_keep_alive_works() {
    let upstream = Scripted::start(|_, wire| {
        wire.answer("200 OK", "text/plain", b"x");
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for _ in 0..50 {
        assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);
    }
    assert_eq!(upstream.requests().len(), 50);
}

/// Responds to the first request of a connection; closes it after receiving the second.
fn cut_second_request(request: &Request, wire: &mut testing::scripted::Wire) -> Then {
    wire.read_body();
    match request.number {
        0 => wire.answer("200 OK", "text/plain", b"x"),
        _ => Then::Cut,
    }
}

#[test]
fn only_bodyless_idempotent_requests_are_retried() {
    for (request, is_repeated) in [
        ("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\n\r\n", true),
        ("DELETE /1.0/x HTTP/1.1\r\nHost: gate.test\r\n\r\n", true),
        ("POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\n\r\n", false),
        (
            "POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        (
            "POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody",
            false,
        ),
        (
            "POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            false,
        ),
        (
            "PUT /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody",
            false,
        ),
        (
            "PATCH /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody",
            false,
        ),
    ] {
        let upstream = Scripted::start(cut_second_request);
        let scene = ScriptedScene::before(&upstream);
        // A connection stays with one worker, and so with one pool.
        let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        assert_eq!(admin.get("/1.0/first").unwrap().head.status, 200);
        let answer = in_time(|| admin.ask(request).unwrap());
        let sent = upstream
            .requests()
            .iter()
            .filter(|request| request.target() == "/1.0/x")
            .count();
        if is_repeated {
            assert_eq!((answer.head.status, sent), (200, 2), "{request}");
        } else {
            assert_unavailable(&answer);
            assert_eq!(sent, 1, "{request}");
        }
    }
}

#[test]
fn a_request_is_retried_once_at_most() {
    let upstream = Scripted::start(|_, _| Then::Cut);
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_unavailable(&in_time(|| admin.get("/1.0/x").unwrap()));
    assert!(upstream.requests().len() <= 2, "{} times", upstream.requests().len());
}

#[test]
fn a_response_before_the_end_of_the_upload_is_forwarded() {
    let upstream = Scripted::start(|_, wire| {
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    admin
        .send("POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 1000000\r\n\r\na part")
        .unwrap();
    let answer = in_time(|| admin.read_answer().unwrap());
    assert_eq!((answer.head.status, answer.text().as_str()), (413, "x"));
}
