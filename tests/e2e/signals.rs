//! SIGTERM drains, a second one ends the process, SIGHUP reloads. None of them aborts more than necessary.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use testing::gateway::Gateway;
use testing::run::run;
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::{FINGERPRINT, Scripted};
use testing::tls::{End, PATIENCE, Raw, TlsClient};

/// An upstream whose downloads stop in the middle until the test continues them.
fn downloads() -> (Scripted, Sender<()>) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let upstream = Scripted::start(move |request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        "/1.0/short" => wire.answer("200 OK", "text/plain", b"x"),
        _ => {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            wire.send("after")
        }
    });
    (upstream, sender)
}

fn export() -> String {
    format!("/1.0/images/{FINGERPRINT}/export")
}

fn begin_download(client: &TlsClient, port: SocketAddr) -> Raw {
    let mut raw = client.connect(port).unwrap();
    raw.send(format!("GET {} HTTP/1.1\r\nHost: gate.test\r\n\r\n", export()))
        .unwrap();
    assert_eq!(raw.read_head().unwrap().status, 200);
    assert_eq!(raw.read_exactly(5).unwrap(), b"first");
    raw
}

/// Waits until the port accepts no connections.
fn wait_until_refused(port: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(port).is_ok() {
        assert!(Instant::now() < deadline, "{port} is still open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn terminate(gateway: &Gateway) {
    gateway.signal("TERM");
    gateway.wait_for_log("draining");
    wait_until_refused(gateway.public());
    wait_until_refused(gateway.admin());
}

#[test]
fn a_drain_completes_all_requests() {
    let (upstream, go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let (ops, stranger) = (TlsClient::of(scene.ops()), TlsClient::tls13());
    let (admin, public) = (scene.gateway.admin(), scene.gateway.public());
    let mut downloads = [begin_download(&ops, admin), begin_download(&stranger, public)];
    let mut idle = ops.connect(admin).unwrap();
    assert_eq!(idle.get("/1.0/short").unwrap().head.status, 200);
    let mut http2 = ops.connect_http2(admin).unwrap();
    let request = http2.request("GET", &export());
    let mut http2 = http2.start(request).unwrap();
    assert_eq!(http2.read().unwrap().unwrap(), "first");
    let mut tunnel = ops.connect(admin).unwrap();
    assert_eq!(tunnel.upgrade("/1.0/tunnel").unwrap().status, 101);

    terminate(&scene.gateway);
    assert_eq!(idle.end(), End::CloseNotify, "nothing is under way here");
    tunnel.send("ping").unwrap();
    assert_eq!(tunnel.read_exactly(4).unwrap(), b"ping");
    assert!(scene.gateway.ended().is_none());

    for _ in 0..3 {
        go_on.send(()).unwrap();
    }
    for raw in &mut downloads {
        assert_eq!(raw.read_to_end(), (b"after".to_vec(), End::CloseNotify));
    }
    assert_eq!(http2.read().unwrap().unwrap(), "after");
    assert_eq!(http2.read(), Ok(None));
    assert!(scene.gateway.ended().is_none(), "the tunnel is still open");
    tunnel.finish().unwrap();
    assert_eq!(tunnel.end(), End::CloseNotify);
    assert_eq!(scene.gateway.exit_status().code(), Some(0));
}

#[test]
fn a_drain_of_idle_connections_ends_at_once() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let mut idle = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(idle.get("/1.0/short").unwrap().head.status, 200);
    let begun = Instant::now();
    scene.gateway.signal("TERM");
    assert_eq!(scene.gateway.exit_status().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_drain_does_not_wait_for_connections_without_a_request() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let ports = [scene.gateway.public(), scene.gateway.admin()];
    let silent = ports.map(|port| TcpStream::connect(port).unwrap());
    let silent_in_tls = ports.map(|port| TlsClient::tls13().connect(port).unwrap());
    let silent_in_http2 = ports.map(|port| TlsClient::tls13().alpn(&["h2"]).connect(port).unwrap());
    // Connections are accepted in order, so those above have been.
    begin_download(&TlsClient::tls13(), scene.gateway.public());
    begin_download(&TlsClient::of(scene.ops()), scene.gateway.admin());
    let begun = Instant::now();
    scene.gateway.signal("TERM");
    assert_eq!(scene.gateway.exit_status().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        begun.elapsed()
    );
    drop((silent, silent_in_tls, silent_in_http2));
}

#[test]
fn drain_timeout_ends_the_drain() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = "[limits]\ndrain_timeout = \"1s\"\n".to_owned();
    });
    let mut download = begin_download(&TlsClient::of(scene.ops()), scene.gateway.admin());
    terminate(&scene.gateway);
    assert_is_cut(&mut download);
    assert_eq!(scene.gateway.exit_status().code(), Some(1));
}

#[test]
fn a_second_sigterm_exits_at_once() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let mut download = begin_download(&TlsClient::of(scene.ops()), scene.gateway.admin());
    terminate(&scene.gateway);
    let begun = Instant::now();
    scene.gateway.signal("TERM");
    assert_eq!(scene.gateway.exit_status().code(), Some(1));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        begun.elapsed()
    );
    assert_is_cut(&mut download);
}

/// An aborted body must end without a close_notify or FIN.
fn assert_is_cut(download: &mut Raw) {
    assert_eq!(download.read_to_end(), (Vec::new(), End::Reset));
}

#[test]
fn a_sighup_during_a_drain_is_ignored() {
    let (upstream, go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let mut download = begin_download(&TlsClient::of(scene.ops()), scene.gateway.admin());
    terminate(&scene.gateway);
    scene.gateway.signal("HUP");
    go_on.send(()).unwrap();
    assert_eq!(download.read_to_end(), (b"after".to_vec(), End::CloseNotify));
    assert_eq!(scene.gateway.exit_status().code(), Some(0));
}

#[test]
fn a_reload_aborts_no_request() {
    let (upstream, go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let (ops, stranger) = (TlsClient::of(scene.ops()), TlsClient::tls13());
    let mut downloads = [
        begin_download(&ops, scene.gateway.admin()),
        begin_download(&stranger, scene.gateway.public()),
    ];
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    for raw in &mut downloads {
        go_on.send(()).unwrap();
        assert_eq!(raw.read_exactly(5).unwrap(), b"after");
    }
    assert_eq!(downloads[0].get("/1.0/short").unwrap().head.status, 200);
    assert_eq!(downloads[1].get("/1.0").unwrap().head.status, 200);
}

#[test]
fn a_reload_applies_new_certificates_and_admins() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let (admin, public) = (scene.gateway.admin(), scene.gateway.public());
    let newcomer = scene.certificates.client("newcomer");
    let status = || {
        TlsClient::of(&newcomer)
            .connect(admin)
            .unwrap()
            .get("/1.0/short")
            .unwrap()
            .head
            .status
    };
    assert_eq!(status(), 403);

    // Renewed in place, as ACME clients do.
    let renewed = scene.certificates.server("renewed");
    fs::copy(&renewed.certificate, &scene.setup.server.certificate).unwrap();
    fs::copy(&renewed.key, &scene.setup.server.key).unwrap();
    let mut setup = scene.setup.clone();
    setup.admins.push(("newcomer".to_owned(), newcomer.clone()));
    scene.gateway.reconfigure(&setup.text());
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    for port in [admin, public] {
        assert_eq!(
            TlsClient::tls13().connect(port).unwrap().server_certificate(),
            renewed.der()
        );
    }
    assert_eq!(status(), 200);
}

#[test]
fn a_reload_of_an_invalid_configuration_is_rejected() {
    let (upstream, _go_on) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let ops = TlsClient::of(scene.ops());
    let good = scene.setup.text();
    let mut missing = scene.setup.clone();
    missing.server = scene.certificates.server("removed");
    fs::remove_file(&missing.server.key).unwrap();
    let mut mismatched = scene.setup.clone();
    mismatched.server.key = scene.ops().key.clone();

    for (wrong, why) in [
        ("this is no TOML".to_owned(), "proxy.toml"),
        (good.replace("images =", "imagse ="), "imagse"),
        (missing.text(), "tls.private_key"),
        (mismatched.text(), "tls.certificate"),
    ] {
        let before = scene.gateway.log().len();
        scene.gateway.reconfigure(&wrong);
        scene.gateway.signal("HUP");
        let line = scene.gateway.wait_for_log_after(before, "reload failed");
        // The message may continue on further lines.
        scene.gateway.wait_for_log_after(before, why);
        assert!(line.contains("ERROR"), "{line}");
        let mut raw = ops.connect(scene.gateway.admin()).unwrap();
        assert_eq!(raw.server_certificate(), scene.setup.server.der());
        assert_eq!(raw.get("/1.0/short").unwrap().head.status, 200);
        assert_eq!(
            TlsClient::tls13()
                .connect(scene.gateway.public())
                .unwrap()
                .get("/1.0")
                .unwrap()
                .head
                .status,
            200
        );
    }

    fs::remove_file(scene.gateway.configuration()).unwrap();
    let before = scene.gateway.log().len();
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log_after(before, "reload failed");
    scene.gateway.reconfigure(&good);
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log_after(before, "reloaded");
    assert_eq!(
        ops.connect(scene.gateway.admin())
            .unwrap()
            .get("/1.0/short")
            .unwrap()
            .head
            .status,
        200
    );
}

#[test]
fn a_fifo_in_place_of_a_file_is_rejected_without_delay() {
    let (upstream, _tell) = downloads();
    let scene = ScriptedScene::before(&upstream);
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    let wrong = |change: &dyn Fn(&mut Setup)| {
        let mut setup = scene.setup.clone();
        change(&mut setup);
        setup.text()
    };
    for (key, text) in [
        (
            "tls.certificate",
            wrong(&|setup| setup.server.certificate = fifo.clone()),
        ),
        ("tls.private_key", wrong(&|setup| setup.server.key = fifo.clone())),
        (
            "upstream.client_certificate",
            wrong(&|setup| setup.local.certificate = fifo.clone()),
        ),
        (
            "upstream.client_private_key",
            wrong(&|setup| setup.local.key = fifo.clone()),
        ),
        (
            "upstream.server_certificate",
            wrong(&|setup| setup.pin = Some(fifo.clone())),
        ),
        (
            "admin.clients[0].certificate",
            wrong(&|setup| setup.admins[0].1.certificate = fifo.clone()),
        ),
        (
            "tls.certificate",
            wrong(&|setup| setup.server.certificate = "/dev/zero".into()),
        ),
        (
            "tls.certificate",
            wrong(&|setup| setup.server.certificate = folder.path().to_owned()),
        ),
    ] {
        let before = scene.gateway.log().len();
        scene.gateway.reconfigure(&text);
        scene.gateway.signal("HUP");
        let line = scene.gateway.wait_for_log_after(before, "reload failed");
        assert!(line.contains(&format!(": {key}: cannot read")), "{line}");
        let mut ops = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        assert_eq!(ops.get("/1.0/short").unwrap().head.status, 200, "{key}");
    }
    // The same for the configuration file itself.
    let configuration = scene.gateway.configuration();
    fs::rename(&fifo, &configuration).unwrap();
    let before = scene.gateway.log().len();
    scene.gateway.signal("HUP");
    let line = scene.gateway.wait_for_log_after(before, "reload failed");
    assert!(line.contains("it is not a regular file"), "{line}");
    terminate(&scene.gateway);
    assert!(scene.gateway.exit_status().success());
}
