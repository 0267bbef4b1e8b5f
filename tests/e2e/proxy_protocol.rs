//! Behind a proxy, the client's address comes from the PROXY header, but only of listed proxies. Towards Incus, the gateway can
//! send a PROXY header itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use testing::certificates::Certificate;
use testing::client::{Client, Curl};
use testing::gateway::{Gateway, PATIENCE, binary};
use testing::haproxy::Haproxy;
use testing::images::Images;
use testing::monitor::Monitor;
use testing::run::run;
use testing::scene::{Scene, ScriptedScene, Setup};
use testing::scripted::Scripted;

/// All of 127.0.0.0/8 is this machine: the proxy has .1, clients have other addresses.
const CLIENT: &str = "127.0.0.9";
const OTHER_CLIENT: &str = "127.0.0.10";
const DEBUG: &str = "[log]\nlevel = \"info,incus_gate=debug\"\n";

fn behind_a_proxy(setup: &mut Setup) {
    setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
    setup.more_admin = "proxy_protocol_from = [\"192.0.2.0/24\", \"127.0.0.1\"]".to_owned();
    setup.more = DEBUG.to_owned();
}

fn scripted() -> Scripted {
    Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"))
}

/// Sends a GET request from this local address with curl.
fn get(url: String, from: &str, admin: &Certificate) -> u16 {
    let curl = Curl::get(url).with(["--interface", from]).presenting(admin);
    curl.answer().status
}

#[test]
fn the_header_of_a_listed_proxy_sets_the_client_address() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, behind_a_proxy);
    for (count, how) in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"]
        .into_iter()
        .enumerate()
    {
        let seen = scene.gateway.log().len();
        let proxy = Haproxy::before(scene.gateway.admin(), how);
        assert_eq!(get(proxy.url() + "/1.0/x", CLIENT, scene.ops()), 200, "{how}");
        // Not the proxy's address, which is the peer address of TCP.
        scene.gateway.wait_for_log_after(seen, &format!("client={CLIENT}:"));
        let request = upstream.wait_for_requests(count + 1).pop().unwrap();
        assert_eq!(request.field("x-forwarded-for").as_deref(), Some(CLIENT), "{how}");
        assert_eq!(request.field("x-real-ip").as_deref(), Some(CLIENT), "{how}");
    }
    // A rejection names the client, too.
    let seen = scene.gateway.log().len();
    let proxy = Haproxy::before(scene.gateway.admin(), "send-proxy-v2");
    assert_eq!(
        get(
            proxy.url() + "/1.0/x",
            OTHER_CLIENT,
            &scene.certificates.client("nobody")
        ),
        403
    );
    let refused = scene.gateway.wait_for_log_after(seen, "rejected: ");
    assert!(refused.contains(&format!("client={OTHER_CLIENT}:")), "{refused}");
}

#[test]
fn incus_clients_work_behind_the_proxy() {
    let scene = Scene::start_with(behind_a_proxy);
    Images::new()
        .split("one")
        .import(&scene.incus, &["--alias", "one", "--public"]);
    let public = Haproxy::before(scene.gateway.public(), "send-proxy-v2");
    let stranger = Client::stranger();
    let url = public.url();
    stranger
        .run(&["remote", "add", "gate", &url, "--public", "--accept-certificate"])
        .ok();
    stranger
        .run(&["image", "export", "gate:one", stranger.home().to_str().unwrap()])
        .ok();
    let admin = Haproxy::before(scene.gateway.admin(), "send-proxy");
    let ops = Client::admin(scene.ops());
    let url = admin.url();
    ops.run(&["remote", "add", "gate", &url, "--accept-certificate"]).ok();
    ops.run(&["image", "delete", "gate:one"]).ok();
}

#[test]
fn a_listed_proxy_without_a_valid_header_is_closed() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, behind_a_proxy);
    for header in [
        // TLS at once, from a client on the proxy's machine that bypasses it.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"GET /1.0 HTTP/1.1\r\nHost: gate.test\r\n\r\n".to_vec(),
        b"PROXY TCP4 127.0.0.9 127.0.0.1 4711\r\n".to_vec(),
        [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
    ] {
        for port in [scene.gateway.public(), scene.gateway.admin()] {
            let seen = scene.gateway.log().len();
            assert!(answer_to(port, &header).is_empty(), "{header:?}");
            let refused = scene.gateway.wait_for_log_after(seen, " proxy=127.0.0.1:");
            assert!(refused.contains("DEBUG") && refused.contains("rejected"), "{refused}");
        }
    }
}

#[test]
fn a_silent_listed_proxy_times_out() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        behind_a_proxy(setup);
        setup.more = format!("{DEBUG}[limits]\nhandshake_timeout = \"500ms\"\n");
    });
    // Half a header, and a complete one without a handshake.
    for unfinished in ["PROXY TCP4 127.0.0.9", "PROXY TCP4 127.0.0.9 127.0.0.1 4711 8555\r\n"] {
        let begun = Instant::now();
        let mut tcp = connect(scene.gateway.admin());
        tcp.write_all(unfinished.as_bytes()).unwrap();
        assert_eq!(tcp.read(&mut [0]).unwrap_or(0), 0, "{unfinished:?}");
        assert!(
            begun.elapsed() < PATIENCE / 2,
            "{unfinished:?} was awaited for {:?}",
            begun.elapsed()
        );
    }
    scene.gateway.wait_for_log(" proxy=127.0.0.1:");
    scene.gateway.wait_for_log("client=127.0.0.9:4711");
}

#[test]
fn connections_that_wait_for_a_header_are_limited() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more = format!("{DEBUG}[limits]\nmax_connections = 12\nreserved_admin_connections = 2\n");
    });
    let mut silent: Vec<TcpStream> = (0..30).map(|_| connect(scene.gateway.public())).collect();
    scene
        .gateway
        .wait_for_log("limits.max_connections: rejected a connection on the public port from the proxy 127.0.0.1");
    let is_open = |tcp: &mut TcpStream| {
        tcp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        matches!(tcp.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    assert_eq!(silent.iter_mut().map(is_open).filter(|is_open| *is_open).count(), 10);
    // Closed connections make room for others.
    drop(silent);
    let deadline = Instant::now() + PATIENCE;
    let header = b"PROXY TCP4 127.0.0.9 127.0.0.1 4711 8554\r\nno handshake";
    while answer_to(scene.gateway.public(), header).is_empty() {
        assert!(Instant::now() < deadline, "nobody is heard");
    }
}

#[test]
fn headers_of_other_senders_are_rejected() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_admin = "proxy_protocol_from = \"192.0.2.0/24\"".to_owned();
        setup.more = DEBUG.to_owned();
    });
    // On a port with other proxies and on one without: the header is not TLS.
    for port in [scene.gateway.public(), scene.gateway.admin()] {
        let seen = scene.gateway.log().len();
        let proxy = Haproxy::before(port, "send-proxy");
        let attempt = Curl::get(proxy.url() + "/1.0/x")
            .with(["--interface", CLIENT])
            .presenting(scene.ops());
        attempt.send().unwrap_err();
        scene.gateway.wait_for_log_after(seen, "handshake failed");
    }
    assert!(scene.gateway.log().iter().all(|line| !line.contains(CLIENT)));
    // Without a header, the peer is the client.
    let url = format!("https://{}/1.0/x", scene.gateway.admin());
    assert_eq!(get(url, CLIENT, scene.ops()), 200);
    assert_eq!(upstream.request().field("x-forwarded-for").as_deref(), Some(CLIENT));
}

#[test]
fn health_checks_have_the_address_of_the_proxy() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, behind_a_proxy);
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"] {
        let seen = scene.gateway.log().len();
        // Followed by neither TLS nor plain HTTP, so that the log names the client.
        answer_to(scene.gateway.admin(), &[header, b"\0no TLS\r\n"].concat());
        let failed = scene.gateway.wait_for_log_after(seen, "handshake failed");
        assert!(failed.contains("client=127.0.0.1:"), "{failed}");
    }
}

#[test]
fn a_reload_changes_the_listed_proxies() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, behind_a_proxy);
    let url = format!("https://{}/1.0/x", scene.gateway.admin());
    Curl::get(&url).presenting(scene.ops()).send().unwrap_err();
    let mut setup = scene.setup.clone();
    setup.more_admin.clear();
    reload(&scene.gateway, &setup);
    assert_eq!(get(url, "127.0.0.1", scene.ops()), 200);
}

#[test]
fn incus_receives_the_clients_address() {
    let scene = Scene::start_with(|setup| setup.more_upstream = "proxy_protocol = true".to_owned());
    let image = Images::new().split("one");
    image.import(&scene.incus, &["--public"]);
    scene
        .incus
        .run(&["config", "set", "core.https_trusted_proxy=127.0.0.1"])
        .ok();
    scene.gateway.wait_for_log("the image list is up to date again");
    let monitor = Monitor::of(&scene.incus);
    let admin = scene.gateway.admin_url();
    let who_asked = |target: &str| loop {
        let request = monitor.request();
        if request.target == target {
            return request.client.unwrap().to_string();
        }
    };
    // The second must not use the first one's idle connection; nor must the third.
    for (count, client) in [CLIENT, OTHER_CLIENT, CLIENT].into_iter().enumerate() {
        let target = format!("/1.0/profiles?recursion={count}");
        assert_eq!(get(format!("{admin}{target}"), client, scene.ops()), 200);
        assert_eq!(who_asked(&target), client);
    }
    let export = format!("/1.0/images/{}/export", image.fingerprint);
    let url = format!("{}{export}", scene.gateway.public_url());
    assert_eq!(get(url, OTHER_CLIENT, scene.ops()), 200);
    assert_eq!(who_asked(&export), OTHER_CLIENT);
    // The gateway's own requests have its own address.
    scene.refresh();
    assert_eq!(who_asked("/1.0/images?recursion=1"), "127.0.0.1");
}

#[test]
fn check_reports_a_missing_https_trusted_proxy() {
    let scene = Scene::start_with(|setup| setup.more_upstream = "proxy_protocol = true".to_owned());
    let check = || {
        let configuration = scene.gateway.configuration();
        run(Command::new(binary()).args(["check", "--config"]).arg(configuration))
    };
    let without = check();
    let expected = "upstream.proxy_protocol requires that `incus config get core.https_trusted_proxy` lists the gateway's address, 127.0.0.1";
    assert_eq!(without.status.code(), Some(1));
    assert!(without.stdout.contains("FAIL  Incus at "), "{without}");
    assert!(without.stdout.contains(expected), "{without}");
    scene.gateway.wait_for_log(expected);
    scene
        .incus
        .run(&["config", "set", "core.https_trusted_proxy=127.0.0.1"])
        .ok();
    check().ok();
}

/// Returns all bytes received after sending these, until the connection ends.
fn answer_to(port: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = connect(port);
    // It may be rejected before the last byte.
    let _ = tcp.write_all(bytes);
    let mut answer = Vec::new();
    match tcp.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    answer
}

fn connect(port: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(port).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

fn reload(gateway: &Gateway, setup: &Setup) {
    let seen = gateway.log().len();
    gateway.reconfigure(&setup.text());
    gateway.signal("HUP");
    gateway.wait_for_log_after(seen, "reloaded");
}
