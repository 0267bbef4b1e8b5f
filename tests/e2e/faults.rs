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

/// What a client waits at most.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks, and wants an answer in time.
#[track_caller]
fn in_time(ask: impl FnOnce() -> Answer) -> Answer {
    let begun = Instant::now();
    let answer = ask();
    assert!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
    answer
}

/// Incus is away, in Incus's own JSON.
#[track_caller]
fn assert_is_away(answer: &Answer) {
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
fn an_incus_that_is_away_is_missed_and_welcomed_back() {
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
    // The alias, which is looked up afresh when it is not known yet, comes first.
    let metadata = ["/1.0/images/aliases/published", "/1.0/images?recursion=1", "/1.0"];
    let before: Vec<Value> = metadata.iter().map(|target| public(target).json()).collect();
    assert_eq!(public(&export(&image.fingerprint)).head.status, 200);
    assert_eq!(admin("/1.0").json()["metadata"]["auth"], "trusted");

    scene.incus.stop();
    assert_is_away(&in_time(|| admin("/1.0")));
    assert_is_away(&in_time(|| public(&export(&image.fingerprint))));
    scene.gateway.wait_for_log("cannot connect to Incus");
    for (target, before) in metadata.iter().zip(&before) {
        assert_eq!(in_time(|| public(target)).json(), *before, "{target}");
    }

    scene.incus.start_again();
    assert_eq!(admin("/1.0").json()["metadata"]["auth"], "trusted");
    assert_eq!(public(&export(&image.fingerprint)).head.status, 200);
    scene.gateway.wait_for_log("Incus is available again");
    // What is published now is found: the catalogue lives again too.
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
fn a_reload_while_incus_is_away_costs_strangers_nothing() {
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
    // Of another selection nothing is known.
    "all".clone_into(&mut scene.setup.images);
    reload(&scene);
    assert_is_away(&list(&scene));
}

#[test]
fn what_cannot_be_looked_up_is_not_denied() {
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
    // It may have been published just before Incus went away.
    for name in &names {
        assert_is_away(&in_time(|| stranger.get(name).unwrap()));
    }
}

#[test]
fn an_incus_that_was_never_there_is_missed() {
    let scene = Scene::start();
    scene.incus.stop();
    let gateway = testing::gateway::Gateway::start(&scene.setup.text());
    for target in ["/1.0", "/1.0/images", "/1.0/images/aliases/x"] {
        let mut raw = TlsClient::tls13().connect(gateway.public()).unwrap();
        assert_is_away(&in_time(|| raw.get(target).unwrap()));
    }
    let mut http2 = TlsClient::tls13().connect_http2(gateway.public()).unwrap();
    let answer = http2.get("/1.0").unwrap();
    assert!(matches!(answer.status.as_u16(), 502 | 503));
    assert_eq!(answer.json()["error_code"], answer.status.as_u16());
}

#[test]
fn an_incus_that_hangs_is_not_waited_for() {
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
    assert_is_away(&in_time(|| admin.get("/1.0").unwrap()));
    assert_is_away(&in_time(|| stranger.get(&export(&image.fingerprint)).unwrap()));
    assert_eq!(in_time(|| stranger.get(&metadata).unwrap()).head.status, 200);
    drop(paused);
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);
}

#[test]
fn an_incus_that_hangs_is_not_waited_for_on_an_idle_connection_either() {
    let scene = Scene::start();
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);

    let paused = scene.incus.pause();
    assert_is_away(&in_time(|| admin.get("/1.0").unwrap()));
    drop(paused);
    assert_eq!(admin.get("/1.0").unwrap().head.status, 200);
}

/// What tells it from an Incus that hangs: that one lets nobody in any more.
#[test]
fn an_answer_that_takes_its_time_is_waited_for() {
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
fn an_export_whose_head_does_not_come_is_not_waited_for() {
    let upstream = Scripted::start(|_, _| Then::Hold);
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_is_away(&in_time(|| stranger.get(&export(FINGERPRINT)).unwrap()));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_clients_fault_is_not_incuss() {
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
fn an_answer_that_is_no_http_is_no_answer() {
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
        wire.say(NONSENSE[number]);
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for number in 0..NONSENSE.len() {
        assert_is_away(&in_time(|| admin.get(&format!("/1.0/x?{number}")).unwrap()));
    }
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_is_away(&in_time(|| stranger.get(&export(FINGERPRINT)).unwrap()));
}

#[test]
fn a_catalogue_that_is_no_json_of_incus_is_none() {
    let upstream = Scripted::start_bare(|_, wire| wire.answer("200 OK", "text/html", b"<p>It works!</p>"));
    let scene = ScriptedScene::before(&upstream);
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    for target in ["/1.0", "/1.0/images", &export(FINGERPRINT)] {
        assert_is_away(&in_time(|| stranger.get(target).unwrap()));
    }
    scene
        .gateway
        .wait_for_log("check that upstream.url is the address of Incus");
}

#[test]
fn somebody_else_on_incuss_port_is_not_talked_to() {
    let certificates = Certificates::new();
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let other = certificates.server("other").certificate;
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.pin = Some(other));

    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_is_away(&in_time(|| admin.get("/1.0").unwrap()));
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_is_away(&in_time(|| stranger.get("/1.0").unwrap()));
    let line = scene.gateway.wait_for_log("pinned");
    assert!(line.contains(&upstream.address().to_string()), "{line}");
    assert_eq!(upstream.connections(), 0, "a handshake was completed");
}

#[test]
fn a_renewed_certificate_is_found_in_its_file() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // First the server, then the file.
    let renewed = upstream.renew();
    assert_is_away(&in_time(|| admin.get("/1.0/x").unwrap()));
    fs::write(upstream.certificate(), renewed).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // First a file that is being written, then the server, then the rest of the file.
    fs::write(upstream.certificate(), "-----BEGIN CERT").unwrap();
    let renewed = upstream.renew();
    assert_is_away(&in_time(|| admin.get("/1.0/x").unwrap()));
    fs::write(upstream.certificate(), renewed).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);

    // The catalogue may have met the wrong one, and tries again by itself.
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let deadline = Instant::now() + LIMIT;
    while stranger.get("/1.0").unwrap().head.status != 200 {
        assert!(Instant::now() < deadline, "the catalogue is still away");
    }
}

#[test]
fn a_connection_that_incus_closes_after_each_answer_is_no_fault() {
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

/// The connection answers its first request; its second one it takes, and is gone.
fn going_stale(request: &Request, wire: &mut testing::scripted::Wire) -> Then {
    wire.read_body();
    match request.number {
        0 => wire.answer("200 OK", "text/plain", b"x"),
        _ => Then::Cut,
    }
}

#[test]
fn a_request_on_a_stale_connection_is_repeated_where_that_is_right() {
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
        let upstream = Scripted::start(going_stale);
        let scene = ScriptedScene::before(&upstream);
        // One connection stays with one worker of the gateway, and so with one pool.
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
            assert_is_away(&answer);
            assert_eq!(sent, 1, "{request}");
        }
    }
}

#[test]
fn a_request_whose_first_connection_breaks_is_not_repeated_for_ever() {
    let upstream = Scripted::start(|_, _| Then::Cut);
    let scene = ScriptedScene::before(&upstream);
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_is_away(&in_time(|| admin.get("/1.0/x").unwrap()));
    assert!(upstream.requests().len() <= 2, "{} times", upstream.requests().len());
}

#[test]
fn an_answer_may_come_before_the_request_is_over() {
    let upstream = Scripted::start(|_, wire| {
        wire.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
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
