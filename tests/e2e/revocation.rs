//! A reload that removes an administrator from `admin.clients` revokes their access, including open connections and kept
//! sessions.

use std::net::SocketAddr;
use std::time::Duration;

use testing::certificates::Certificates;
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::http2::Http2;
use testing::tls::{End, Raw, TlsClient};

fn upstream() -> Scripted {
    Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        "/1.0/long" => wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na part"),
        _ => wire.answer("200 OK", "text/plain", b"welcome"),
    })
}

#[test]
fn a_removed_admin_loses_all_open_connections() {
    let upstream = upstream();
    let certificates = Certificates::new();
    let leaving = certificates.client("leaving");
    let by_fingerprint = certificates.client("by-fingerprint");
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.admins.push(("leaving".to_owned(), leaving.clone()));
        let fingerprint = by_fingerprint.fingerprint();
        setup.more = format!("[[admin.clients]]\nname = \"other\"\nfingerprint = \"{fingerprint}\"\n");
    });
    let admin = scene.gateway.admin();

    let ops = TlsClient::of(scene.ops());
    // These clients keep their sessions.
    let leaving = [
        TlsClient::of(&leaving),
        TlsClient::tls12().presenting(&leaving),
        TlsClient::of(&by_fingerprint),
        TlsClient::tls12().presenting(&by_fingerprint),
    ];
    let mut kept = Connections::open(admin, &ops);
    let mut taken_out: Vec<Connections> = leaving.iter().map(|client| Connections::open(admin, client)).collect();

    let mut setup = scene.setup.clone();
    setup.admins.truncate(1);
    setup.more.clear();
    scene.gateway.reconfigure(&setup.text());
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");

    for connections in &mut taken_out {
        connections.assert_closed();
    }
    kept.assert_open();
    let before = upstream.requests().len();
    for client in &leaving {
        let mut raw = client.connect(admin).unwrap();
        assert!(!raw.is_resumed());
        assert_eq!(raw.get("/1.0/short").unwrap().head.status, 403);
        let mut http2 = client.connect_http2(admin).unwrap();
        assert_eq!(http2.get("/1.0/short").unwrap().status, 403);
    }
    assert_eq!(upstream.requests().len(), before);
}

/// The kinds of connections of an admin.
struct Connections {
    idle: Raw,
    tunnel: Raw,
    download: Raw,
    http2: Http2,
}

impl Connections {
    fn open(admin: SocketAddr, client: &TlsClient) -> Self {
        let mut idle = client.connect(admin).unwrap();
        assert_eq!(idle.get("/1.0/short").unwrap().head.status, 200);
        let mut tunnel = client.connect(admin).unwrap();
        assert_eq!(tunnel.upgrade("/1.0/tunnel").unwrap().status, 101);
        tunnel.send("ping").unwrap();
        assert_eq!(tunnel.read_exactly(4).unwrap(), b"ping");
        let mut download = client.connect(admin).unwrap();
        download
            .send("GET /1.0/long HTTP/1.1\r\nHost: gate.test\r\n\r\n")
            .unwrap();
        assert_eq!(download.read_head().unwrap().status, 200);
        download.read_exactly(6).unwrap();
        let mut http2 = client.connect_http2(admin).unwrap();
        assert_eq!(http2.get("/1.0/short").unwrap().status, 200);
        Self {
            idle,
            tunnel,
            download,
            http2,
        }
    }

    fn assert_closed(&mut self) {
        for raw in [&mut self.idle, &mut self.tunnel, &mut self.download] {
            let (rest, end) = raw.read_to_end();
            assert!(rest.is_empty());
            assert!(!matches!(end, End::Silence), "it is still open");
        }
        assert!(self.http2.get("/1.0/short").is_err());
    }

    fn assert_open(&mut self) {
        assert_eq!(self.idle.get("/1.0/short").unwrap().head.status, 200);
        self.tunnel.send("pong").unwrap();
        assert_eq!(self.tunnel.read_exactly(4).unwrap(), b"pong");
        self.download.patience = Duration::from_millis(100);
        assert_eq!(self.download.end(), End::Silence);
        assert_eq!(self.http2.get("/1.0/short").unwrap().status, 200);
    }
}
