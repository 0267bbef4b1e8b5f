//! A crowd on one port, or on both, locks nobody out who has a right to be there: not by connections that never shake hands,
//! nor by those that do and have no listed certificate.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testing::client::Client;
use testing::gateway::{Gateway, PATIENCE};
use testing::images::Images;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Scripted;
use testing::tls::{End, Raw, TlsClient};

/// Opens connections that say nothing.
fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// Waits until the gateway has looked at so many connections: it holds that many sockets more, or has closed some.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the other end has closed it.
fn is_closed(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).unwrap();
    let peeked = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false).unwrap();
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// At least one, or the test fails.
fn lines(gateway: &Gateway, text: &str) -> usize {
    gateway.wait_for_log(text);
    gateway.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn hundreds_of_half_open_handshakes_are_not_noticed_by_real_clients() {
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
    let public = silent(scene.gateway.public(), 600);
    let mut admins = silent(scene.gateway.admin(), 300);
    until("the crowd is there", || scene.gateway.open_files() > before + 600);
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
        admins.extend(silent(scene.gateway.admin(), 100));
    }
    assert!(public.iter().all(|tcp| !is_closed(tcp)), "they have their time");
    until("the admin port's crowd has displaced itself", || {
        admins.iter().filter(|tcp| !is_closed(tcp)).count() <= 32
    });
    assert_eq!(
        lines(&scene.gateway, "limits.admin_connections:"),
        1,
        "one line an episode"
    );
}

#[test]
fn a_full_public_port_is_full_for_strangers_only() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\nconnections = 20\nadmin_connections = 8\n".to_owned();
    });
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let mut strangers: Vec<Raw> = (0..12).map(|_| TlsClient::tls13().connect(public).unwrap()).collect();

    for _ in 0..3 {
        assert_eq!(TlsClient::tls13().connect(public).unwrap_err(), End::Reset);
    }
    assert_eq!(lines(&scene.gateway, "limits.connections:"), 1, "one line an episode");
    let ops = TlsClient::of(scene.ops());
    let mut admins: Vec<Raw> = (0..8).map(|_| ops.connect(admin).unwrap()).collect();
    for raw in &mut admins {
        assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
    }
    for raw in &mut strangers {
        assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    }
    // A place is free again when its connection ends.
    drop(strangers.pop());
    until("a stranger is let in", || TlsClient::tls13().connect(public).is_ok());
}

#[test]
fn a_crowd_without_listed_certificates_locks_no_admin_out() {
    let upstream = Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
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
    tunnel
        .send("GET /1.0/tunnel HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .unwrap();
    assert_eq!(tunnel.read_head().unwrap().status, 101);

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
fn a_tunnel_holds_its_place_until_it_ends() {
    let upstream = Scripted::start(|_, wire| {
        wire.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        wire.echo()
    });
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\nconnections = 4\n".to_owned();
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
    until("another has the place", || open().is_ok());
}
