//! Overload on one port, or on both, does not lock out legitimate clients: neither connections without a handshake nor those
//! with a handshake but without a listed certificate.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use testing::certificates::Certificates;
use testing::client::Client;
use testing::gateway::{Gateway, PATIENCE};
use testing::images::Images;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Scripted;
use testing::tls::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame};
use testing::tls::{End, Raw, TlsClient, frames};

/// Opens connections that send nothing.
fn silent_connections(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// Waits until this condition holds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether the peer has closed the connection or sent something.
fn is_closed(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).unwrap();
    let peeked = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false).unwrap();
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Returns the number of lines with this text, after waiting for the first one.
fn lines(gateway: &Gateway, text: &str) -> usize {
    gateway.wait_for_log(text);
    gateway.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn hundreds_of_open_handshakes_do_not_affect_real_clients() {
    let scene = Scene::start();
    Images::new()
        .split("one")
        .import(&scene.incus, &["--alias", "one", "--public"]);
    let stranger = scene.stranger();
    scene.refresh();
    let admin = Client::admin(scene.ops());
    admin
        .run(&[
            "remote",
            "add",
            "gate",
            &scene.gateway.admin_url(),
            "--accept-certificate",
        ])
        .ok();

    let before = scene.gateway.open_files();
    let public = silent_connections(scene.gateway.public(), 600);
    let mut admins = silent_connections(scene.gateway.admin(), 300);
    wait_until("the crowd is there", || scene.gateway.open_files() > before + 600);
    for _ in 0..3 {
        assert!(
            stranger
                .run(&["image", "list", "gate:", "--format", "csv"])
                .ok()
                .contains("one")
        );
        assert!(
            admin
                .run(&["image", "list", "gate:", "--format", "csv"])
                .ok()
                .contains("one")
        );
        admins.extend(silent_connections(scene.gateway.admin(), 100));
    }
    assert!(public.iter().all(|tcp| !is_closed(tcp)), "they have their time");
    wait_until("the admin port's crowd has displaced itself", || {
        admins.iter().filter(|tcp| !is_closed(tcp)).count() <= 32
    });
    assert_eq!(
        lines(&scene.gateway, "limits.reserved_admin_connections:"),
        1,
        "one line an episode"
    );
}

#[test]
fn a_full_public_port_does_not_affect_admins() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\nmax_connections = 20\nreserved_admin_connections = 8\n".to_owned();
    });
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let mut strangers: Vec<Raw> = (0..12).map(|_| TlsClient::tls13().connect(public).unwrap()).collect();

    // New connections evict those that have been idle for the longest time.
    for _ in 0..3 {
        strangers.push(TlsClient::tls13().connect(public).unwrap());
    }
    for mut displaced in strangers.drain(..3) {
        assert_eq!(displaced.end(), End::Reset);
    }
    assert_eq!(
        lines(&scene.gateway, "limits.max_connections:"),
        1,
        "one line an episode"
    );
    let ops = TlsClient::of(scene.ops());
    let mut admins: Vec<Raw> = (0..8).map(|_| ops.connect(admin).unwrap()).collect();
    for raw in &mut admins {
        assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
    }
    for raw in &mut strangers {
        assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    }
}

#[test]
fn clients_without_listed_certificates_lock_out_no_admin() {
    let upstream = Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        _ => wire.answer("200 OK", "text/plain", b"welcome"),
    });
    let scene = ScriptedScene::before(&upstream);
    let admin = scene.gateway.admin();
    let ops = TlsClient::of(scene.ops());
    let mut open = ops.connect(admin).unwrap();
    assert_eq!(open.get("/1.0/x").unwrap().head.status, 200);
    let mut tunnel = ops.connect(admin).unwrap();
    assert_eq!(tunnel.upgrade("/1.0/tunnel").unwrap().status, 101);

    let impostor = TlsClient::of(&scene.certificates.client("impostor"));
    let mut crowd: Vec<Raw> = (0..40).map(|_| impostor.connect(admin).unwrap()).collect();
    assert_eq!(crowd[0].end(), End::Reset, "the first have made room for the last");
    let answer = crowd[39].get("/1.0/x").unwrap();
    assert_eq!(answer.head.status, 403);
    assert_eq!(answer.head.field("connection"), Some("close"));
    assert_eq!(crowd[39].end(), End::CloseNotify);
    let mut http2 = impostor.connect_http2(admin).unwrap();
    assert_eq!(http2.get("/1.0/x").unwrap().status, 403);
    assert!(http2.is_closed_within(PATIENCE));

    assert_eq!(open.get("/1.0/x").unwrap().head.status, 200);
    tunnel.send("still here").unwrap();
    assert_eq!(tunnel.read_exactly(10).unwrap(), b"still here");
    assert_eq!(ops.connect(admin).unwrap().get("/1.0/x").unwrap().head.status, 200);
}

#[test]
fn a_tunnel_counts_as_a_connection_until_it_ends() {
    let upstream = Scripted::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        wire.echo()
    });
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\nmax_connections = 4\n".to_owned();
    });
    let ops = TlsClient::of(scene.ops());
    let open = || {
        let mut raw = ops.connect(scene.gateway.admin())?;
        raw.send("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
        raw.read_head().map(|_| raw)
    };
    let mut tunnels: Vec<Raw> = (0..4).map(|_| open().unwrap()).collect();
    assert_eq!(open().unwrap_err(), End::Reset);
    drop(tunnels.pop());
    wait_until("another has the place", || open().is_ok());
}

/// Returns `GET /1.0` as an HTTP/2 stream.
fn stream(number: u32) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/1.0"),
        (":authority", "gate.test"),
    ];
    frame(HEADERS, END_STREAM | END_HEADERS, number, &block(fields))
}

/// Opens an HTTP/2 connection without a certificate.
fn http2_without_certificate(scene: &ScriptedScene) -> Raw {
    let mut raw = frames::connect(&TlsClient::tls13(), scene.gateway.admin());
    raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    raw
}

/// Returns the streams that got a response before the end of the connection.
fn answered(raw: &mut Raw) -> (Vec<u32>, End) {
    let mut streams = Vec::new();
    loop {
        match raw.read_frame() {
            Ok(frame) if frame.kind == HEADERS => streams.push(frame.stream),
            Ok(_) => {}
            Err(end) => return (streams, end),
        }
    }
}

#[test]
fn a_rejected_admin_connection_answers_no_further_stream() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before(&upstream);
    // Concurrent streams.
    let mut raw = http2_without_certificate(&scene);
    raw.send((0..50).flat_map(|n| stream(2 * n + 1)).collect::<Vec<_>>())
        .unwrap();
    let (streams, end) = answered(&mut raw);
    assert_eq!(streams, [1]);
    assert_ne!(
        end,
        End::Silence,
        "it is still open though its client acknowledges nothing"
    );

    // Sequential streams, for as long as the connection accepts any.
    let mut raw = http2_without_certificate(&scene);
    raw.send(stream(1)).unwrap();
    while raw.read_frame().unwrap().kind != HEADERS {}
    let mut number = 1;
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        number += 2;
        assert!(Instant::now() < deadline, "it takes stream after stream");
        if raw.send(stream(number)).is_err() {
            break number;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(ended > 3);
    assert!(upstream.requests().is_empty(), "something has reached Incus");
}

#[test]
fn a_client_that_does_not_read_its_rejection_is_closed() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before(&upstream);
    let mut raw = frames::connect(&TlsClient::tls13(), scene.gateway.admin());
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.send([PREFACE, &settings, &stream(1)].concat()).unwrap();
    let (streams, end) = answered(&mut raw);
    assert_eq!(streams, [1]);
    assert_ne!(end, End::Silence, "it is still open");
}

/// Returns the first message of a handshake.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), "gate.test".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn an_admin_does_not_wait_for_other_handshakes() {
    const CROWD: usize = 1_000;
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    // RSA signatures cost many times those of other keys.
    let certificates = Certificates::new();
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.server = certificates.openssl_rsa("rsa"));
    let ops = TlsClient::of(scene.ops());
    let before = scene.gateway.open_files();
    let mut crowd = silent_connections(scene.gateway.public(), CROWD);
    wait_until("the crowd is there", || scene.gateway.open_files() >= before + CROWD);
    // All at once: the gateway receives them together, however busy the machine is.
    let hello = client_hello();
    scene.gateway.signal("STOP");
    for tcp in &mut crowd {
        tcp.write_all(&hello).unwrap();
    }
    scene.gateway.signal("CONT");
    let mut admin = ops.connect(scene.gateway.admin()).unwrap();
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);
    let answered = crowd.iter().filter(|tcp| is_closed(tcp)).count();
    assert!(
        answered < CROWD / 2,
        "{answered} of {CROWD} strangers went before the admin"
    );
    wait_until("the crowd is answered too", || crowd.iter().all(is_closed));
}
