//! A transfer that is aborted on one side of the gateway never looks complete on the other.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use testing::certificates::Certificate;
use testing::images::{Images, Kind};
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::{FINGERPRINT, Request, Scripted, Then, Wire};
use testing::tls::http2::torn;
use testing::tls::{End, PATIENCE, Raw, TlsClient};
use tokio::sync::oneshot;

/// A truncated response.
struct Torn {
    /// The framing headers and the beginning of the body.
    begins: &'static str,
    /// Sent after the client has received the beginning.
    goes_on: &'static str,
    /// How the connection ends.
    then: Then,
}

const PART: &str = "a part";
const LENGTH: &str = "Content-Length: 1000000\r\n\r\na part";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n6\r\na part\r\n";

#[rustfmt::skip]
const TORN: [Torn; 10] = [
    Torn { begins: LENGTH, goes_on: "", then: Then::Cut },
    Torn { begins: LENGTH, goes_on: "", then: Then::Reset },
    Torn { begins: LENGTH, goes_on: "", then: Then::Close },
    Torn { begins: CHUNKED, goes_on: "", then: Then::Cut },
    Torn { begins: CHUNKED, goes_on: "", then: Then::Reset },
    Torn { begins: CHUNKED, goes_on: "", then: Then::Close },
    Torn { begins: CHUNKED, goes_on: "ff\r\nanother", then: Then::Close },
    Torn { begins: CHUNKED, goes_on: "0\r\n", then: Then::Close },
    Torn { begins: CHUNKED, goes_on: "no length\r\n", then: Then::Hold },
    // Without a length, only TLS distinguishes an end from a truncation.
    Torn { begins: "\r\na part", goes_on: "", then: Then::Cut },
];

/// Starts an upstream that sends this response, and waits for the test before it continues.
fn truncating_upstream(torn: &'static Torn) -> (Scripted, Sender<()>) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let upstream = Scripted::start(move |request, wire| {
        if request.target() == "/1.0/whole" {
            return wire.answer("200 OK", "text/plain", b"the whole");
        }
        wire.send(format!("HTTP/1.1 200 OK\r\n{}", torn.begins));
        receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.send(torn.goes_on);
        torn.then
    });
    (upstream, sender)
}

fn export() -> String {
    format!("/1.0/images/{FINGERPRINT}/export")
}

/// Returns both ports with a client that each accepts.
fn ports(scene: &ScriptedScene) -> [(TlsClient, SocketAddr); 2] {
    [
        (TlsClient::of(scene.ops()), scene.gateway.admin()),
        (TlsClient::tls13(), scene.gateway.public()),
    ]
}

/// Starts a gateway whose list of images stays fresh: an export with an older one first asks for the image, and the upstream
/// would truncate that response.
fn scene(upstream: &Scripted) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| setup.more_public = "max_age = \"1h\"".to_owned())
}

#[test]
fn a_truncated_response_resets_the_connection() {
    for (number, torn) in TORN.iter().enumerate() {
        let (upstream, tear) = truncating_upstream(torn);
        let scene = scene(&upstream);
        for (client, port) in ports(&scene) {
            for version in ["HTTP/1.0", "HTTP/1.1"] {
                let mut raw = client.connect(port).unwrap();
                raw.send(format!("GET {} {version}\r\nHost: gate.test\r\n\r\n", export()))
                    .unwrap();
                assert_eq!(raw.read_head().unwrap().status, 200);
                read_part(&mut raw);
                tear.send(()).unwrap();
                let (rest, end) = raw.read_to_end();
                assert_eq!(end, End::Reset, "{version}, number {number}, at {port}");
                let rest = String::from_utf8(rest).unwrap();
                assert!(
                    !rest.contains("0\r\n\r\n"),
                    "{version}, number {number}, at {port}: {rest}"
                );
            }
        }
    }
}

/// Reads the beginning of the body, with any framing.
fn read_part(raw: &mut Raw) {
    let mut came = String::new();
    while !came.contains(PART) {
        came += &String::from_utf8(raw.read_record().unwrap()).unwrap();
    }
}

#[test]
fn a_truncated_response_resets_only_its_stream() {
    for (number, torn) in TORN.iter().enumerate() {
        let (upstream, tear) = truncating_upstream(torn);
        let scene = scene(&upstream);
        for ((client, port), other) in ports(&scene).into_iter().zip(["/1.0/whole", "/1.0"]) {
            let mut http2 = client.connect_http2(port).unwrap();
            let request = http2.request("GET", &export());
            let mut open = http2.start(request).unwrap();
            assert_eq!(open.status, 200);
            assert_eq!(open.read().unwrap().unwrap(), PART);
            tear.send(()).unwrap();
            let end = loop {
                match open.read() {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            let error = end.expect_err("a clean end");
            assert!(error.contains("Reset(StreamId"), "number {number}, at {port}: {error}");
            assert_eq!(http2.get(other).unwrap().status, 200, "number {number}, at {port}");
        }
    }
}

#[test]
fn curl_detects_a_truncated_download() {
    const PARTIAL_FILE: i32 = 18;
    const RECV_ERROR: i32 = 56;
    const HTTP2_STREAM: i32 = 92;
    for (number, torn) in TORN.iter().enumerate() {
        let (upstream, tear) = truncating_upstream(torn);
        let scene = scene(&upstream);
        for (version, codes) in [
            // By default, curl offers `http/1.0` in ALPN, which no port supports.
            (&["--http1.0", "--no-alpn"][..], [PARTIAL_FILE, RECV_ERROR]),
            (&["--http1.1"], [PARTIAL_FILE, RECV_ERROR]),
            (&["--http2"], [HTTP2_STREAM, HTTP2_STREAM]),
        ] {
            for port in [scene.gateway.public(), scene.gateway.admin()] {
                let code = curl_torn(version, port, scene.ops(), &tear);
                assert!(
                    codes.contains(&code),
                    "{version:?}, number {number}, at {port}: curl exited with {code}"
                );
            }
        }
    }
}

/// Truncates the response after curl has received its beginning; returns curl's exit code.
fn curl_torn(version: &[&str], port: SocketAddr, ops: &Certificate, tear: &Sender<()>) -> i32 {
    let mut curl = Command::new("curl")
        .args(["--disable", "--silent", "--insecure", "--no-buffer", "--max-time", "20"])
        .args(version)
        .arg("--cert")
        .arg(&ops.certificate)
        .arg("--key")
        .arg(&ops.key)
        .arg(format!("https://{port}{}", export()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut part = [0; PART.len()];
    curl.stdout.as_mut().unwrap().read_exact(&mut part).unwrap();
    assert_eq!(&part, PART.as_bytes());
    tear.send(()).unwrap();
    curl.wait().unwrap().code().unwrap()
}

#[test]
fn a_response_truncated_at_once_resets_the_connection() {
    let upstream = Scripted::start(|request, wire| {
        let number: usize = request.target().rsplit('/').next().unwrap().parse().unwrap();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\n{}{}",
            TORN[number].begins, TORN[number].goes_on
        ));
        TORN[number].then
    });
    let scene = scene(&upstream);

    for number in 0..TORN.len() {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
            let answer = raw.ask(format!("GET /1.0/{number} {version}\r\nHost: gate.test\r\n\r\n"));
            // The header section may or may not arrive before the reset.
            let end = answer.map_or_else(|end| end, |answer| answer.whole.expect_err("a clean end"));
            assert_eq!(end, End::Reset, "{version}, number {number}");
        }
    }
}

#[test]
fn a_response_without_a_length_ends_with_close_notify() {
    let upstream = Scripted::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\n\r\nthe whole");
        Then::Close
    });
    let scene = scene(&upstream);

    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        let answer = raw
            .ask(format!("GET /1.0/x {version}\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.whole),
            ("the whole", Ok(())),
            "{version}"
        );
    }
}

#[test]
fn every_client_notices_that_incus_died_during_an_export() {
    let scene = Scene::start();
    let images = Images::new();
    let image = images.random(Kind::Split, "large", 200);
    image.import(&scene.incus, &["--public"]);
    let export = format!("/1.0/images/{}/export", image.fingerprint);
    let (stranger, admin) = (TlsClient::tls13(), TlsClient::of(scene.ops()));

    let mut raws = Vec::new();
    for (client, port) in [(&stranger, scene.gateway.public()), (&admin, scene.gateway.admin())] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let mut raw = client.connect(port).unwrap();
            raw.send(format!("GET {export} {version}\r\nHost: gate.test\r\n\r\n"))
                .unwrap();
            assert_eq!(raw.read_head().unwrap().status, 200);
            raw.read_exactly(1 << 20).unwrap();
            raws.push(raw);
        }
    }
    let mut public = stranger.connect_http2(scene.gateway.public()).unwrap();
    let request = public.request("GET", &export);
    let mut public = public.start(request).unwrap();
    assert!(public.read().unwrap().is_some());
    let mut private = admin.connect_http2(scene.gateway.admin()).unwrap();
    let request = private.request("GET", &export);
    let mut private = private.start(request).unwrap();
    assert!(private.read().unwrap().is_some());

    scene.incus.kill();
    for mut raw in raws {
        assert_eq!(raw.end(), End::Reset);
    }
    for open in [&mut public, &mut private] {
        let end = loop {
            match open.read() {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(
            end.as_ref().is_err_and(|error| error.contains("Reset(StreamId")),
            "{end:?}"
        );
    }
}

#[test]
fn a_truncated_upload_is_truncated_for_incus() {
    const REQUEST: &str =
        "POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na part\r\n";
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |_: &Request, wire: &mut Wire| {
        wire.read_chunk().unwrap();
        sender.lock().unwrap().send("begun").unwrap();
        let rest = wire.read_body();
        sender
            .lock()
            .unwrap()
            .send(if rest.is_some() { "whole" } else { "torn" })
            .unwrap();
        Then::Cut
    });
    let scene = scene(&upstream);
    let client = TlsClient::of(scene.ops());

    let mut raw = client.connect(scene.gateway.admin()).unwrap();
    raw.send(REQUEST).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "begun");
    raw.reset();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "torn");

    let mut raw = client.connect(scene.gateway.admin()).unwrap();
    raw.send(REQUEST).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "begun");
    raw.finish().unwrap();
    assert_eq!(
        receiver.recv_timeout(PATIENCE).unwrap(),
        "torn",
        "an orderly end of TLS is no end of a body"
    );
}

#[test]
fn an_upload_reset_over_http2_is_truncated_for_incus() {
    let (tear, torn_now) = oneshot::channel();
    let tear = Mutex::new(Some(tear));
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |_, wire| {
        assert_eq!(wire.read_chunk().unwrap(), PART.as_bytes());
        tear.lock().unwrap().take().unwrap().send(()).unwrap();
        sender.lock().unwrap().send(wire.read_body().is_some()).unwrap();
        Then::Cut
    });
    let scene = scene(&upstream);

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let mut request = http2.request("POST", "/1.0/images");
    *request.body_mut() = torn(PART, torn_now);
    http2.ask(request).expect_err("an answer to half a request");
    assert!(
        !receiver.recv_timeout(PATIENCE).unwrap(),
        "the body came up as a whole one"
    );
}
