//! HTTP/1.1 upgrades: every protocol works, for as long as both sides want.

use std::io::{ErrorKind, Read};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;
use testing::images::Images;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::{Request, Scripted, Then, Wire};
use testing::tls::http1::Head;
use testing::tls::{End, PATIENCE, Raw, TlsClient};

/// The 101 must be in its own TLS record: Incus's client reads it through a buffer that it then discards.
fn read_101_alone(raw: &mut Raw) -> Head {
    let record = raw.read_record().unwrap();
    let text = String::from_utf8(record).expect("a head alone");
    let (head, rest) = text.split_at(text.find("\r\n\r\n").expect("a whole head") + 4);
    assert_eq!(rest, "", "came in one record with the 101");
    let head = Head::parse(head);
    assert_eq!(head.status, 101, "{}", head.line);
    head
}

fn head(method: &str, target: &str, protocol: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n")
}

/// Sends a 101 as Incus does, with `first` in the same write.
fn switch(request: &Request, wire: &mut Wire, first: &str) {
    let protocol = request.field("upgrade").expect("an Upgrade");
    wire.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\nX-Incus-Fact: 1\r\n\r\n{first}"
    ));
}

#[test]
fn every_protocol_is_forwarded_and_bytes_flow_both_ways() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        wire.echo()
    });
    let scene = ScriptedScene::before(&upstream);

    for protocol in ["websocket", "sftp", "nbd", "tcp", "What-Comes/1.0"] {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        raw.send(head("GET", "/1.0/x?secret=a%2Fb", protocol) + "\r\n").unwrap();
        let answer = read_101_alone(&mut raw);
        assert_eq!(answer.field("upgrade"), Some(protocol));
        assert_eq!(answer.field("connection"), Some("Upgrade"));
        assert_eq!(answer.field("x-incus-fact"), Some("1"));
        for size in [1, 1000, 100_000] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            raw.send(&bytes).unwrap();
            assert_eq!(raw.read_exactly(size).unwrap(), bytes);
        }
        raw.finish().unwrap();
        assert_eq!(raw.end(), End::CloseNotify);

        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.line(), "GET /1.0/x?secret=a%2Fb HTTP/1.1");
        assert_eq!(request.field("upgrade").as_deref(), Some(protocol));
        assert_eq!(
            request.field("connection").map(|value| value.to_lowercase()).as_deref(),
            Some("upgrade")
        );
    }
}

#[test]
fn upgrade_may_be_one_of_several_connection_options() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        wire.echo()
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\nConnection: keep-alive, UPGRADE, x-foo\r\nX-Foo: 1\r\nUpgrade: nbd\r\n\r\n").unwrap();
    read_101_alone(&mut raw);
    assert_eq!(upstream.request().field("x-foo"), None);
}

#[test]
fn a_post_with_a_body_is_upgraded() {
    for body in [
        "Content-Length: 9\r\n\r\n{\"a\": 12}",
        "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"a\": 12}\r\n0\r\n\r\n",
    ] {
        let upstream = Scripted::start(|request, wire| {
            assert_eq!(wire.read_body().unwrap(), b"{\"a\": 12}");
            switch(request, wire, "");
            wire.echo()
        });
        let scene = ScriptedScene::before(&upstream);

        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        raw.send(head("POST", "/1.0/instances/one/debug", "tcp") + body)
            .unwrap();
        read_101_alone(&mut raw);
        raw.send("ping").unwrap();
        assert_eq!(raw.read_exactly(4).unwrap(), b"ping");
        assert_eq!(upstream.request().method(), "POST");
    }
}

#[test]
fn data_written_together_with_the_101_is_forwarded() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "first");
        wire.echo()
    });
    let scene = ScriptedScene::before(&upstream);

    for _ in 0..20 {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        raw.send(head("GET", "/1.0/x", "nbd") + "\r\n").unwrap();
        read_101_alone(&mut raw);
        assert_eq!(raw.read_exactly(5).unwrap(), b"first");
        raw.send("second").unwrap();
        assert_eq!(raw.read_exactly(6).unwrap(), b"second");
    }
}

#[test]
fn data_sent_before_the_101_is_not_lost() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        wire.echo()
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/x", "tcp") + "\r\nearly").unwrap();
    raw.send(" bird").unwrap();
    read_101_alone(&mut raw);
    assert_eq!(raw.read_exactly(10).unwrap(), b"early bird");
}

#[test]
fn the_client_may_close_its_half_of_a_tunnel() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        let mut heard = Vec::new();
        wire.read_to_end(&mut heard).expect("an orderly end");
        wire.send([b"late answer to ", heard.as_slice()].concat());
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/x", "tcp") + "\r\n").unwrap();
    read_101_alone(&mut raw);
    raw.send("last words").unwrap();
    raw.finish().unwrap();
    assert_eq!(
        raw.read_to_end(),
        (b"late answer to last words".to_vec(), End::CloseNotify)
    );
}

#[test]
fn incus_may_close_its_half_of_a_tunnel() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |request, wire| {
        switch(request, wire, "last words");
        wire.finish();
        let mut heard = Vec::new();
        wire.read_to_end(&mut heard).expect("an orderly end");
        sender.lock().unwrap().send(heard).unwrap();
        Then::Close
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/x", "tcp") + "\r\n").unwrap();
    read_101_alone(&mut raw);
    assert_eq!(raw.read_to_end(), (b"last words".to_vec(), End::CloseNotify));
    raw.send("late answer").unwrap();
    raw.finish().unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), b"late answer");
}

#[test]
fn a_tunnel_aborted_on_one_side_is_aborted_on_the_other() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Scripted::start(move |request, wire| {
        switch(request, wire, "");
        match request.target().as_str() {
            "/1.0/cut" => Then::Cut,
            "/1.0/reset" => Then::Reset,
            _ => {
                let mut heard = Vec::new();
                let end = wire.read_to_end(&mut heard).map_err(|error| error.kind());
                sender.lock().unwrap().send(end).unwrap();
                Then::Cut
            }
        }
    });
    let scene = ScriptedScene::before(&upstream);

    for target in ["/1.0/cut", "/1.0/reset"] {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        raw.send(head("GET", target, "tcp") + "\r\n").unwrap();
        read_101_alone(&mut raw);
        assert_eq!(raw.read_to_end(), (Vec::new(), End::Reset), "{target}");
    }

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/x", "tcp") + "\r\n").unwrap();
    read_101_alone(&mut raw);
    raw.reset();
    let end = receiver.recv_timeout(PATIENCE).unwrap();
    // Go treats anything else as a regular end.
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_silent_tunnel_has_no_timeout() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        wire.echo()
    });
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more =
            "[limits]\nhandshake_timeout = \"1s\"\nheader_timeout = \"1s\"\ndrain_timeout = \"1s\"\n".to_owned();
    });

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/x", "tcp") + "\r\n").unwrap();
    read_101_alone(&mut raw);
    raw.patience = Duration::from_secs(3);
    assert_eq!(raw.end(), End::Silence);
    raw.patience = PATIENCE;
    raw.send("still here").unwrap();
    assert_eq!(raw.read_exactly(10).unwrap(), b"still here");
}

#[test]
fn a_rejected_upgrade_is_forwarded_as_a_response() {
    let upstream = Scripted::start(|_, wire| wire.answer("404 Not Found", "application/json", b"{}"));
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for _ in 0..2 {
        let answer = raw.ask(head("GET", "/1.0/x", "websocket") + "\r\n").unwrap();
        assert_eq!((answer.head.status, answer.text().as_str()), (404, "{}"));
    }
    assert_eq!(raw.get("/1.0/x").unwrap().head.status, 404);
}

#[test]
fn an_ignored_upgrade_with_close_ends_gracefully() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", &[b'x'; 1 << 20]));
    let scene = ScriptedScene::before(&upstream);

    for wish in [
        "Connection: close\r\nUpgrade: websocket",
        "Connection: Upgrade, close\r\nUpgrade: h2c",
    ] {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        let answer = raw
            .ask(format!("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\n{wish}\r\n\r\n"))
            .unwrap();
        assert_eq!(answer.whole, Ok(()), "{wish}");
        assert_eq!(answer.body.len(), 1 << 20);
        assert_eq!(raw.end(), End::CloseNotify, "{wish}");
    }
}

#[test]
fn an_unsolicited_101_gets_502() {
    let upstream = Scripted::start(|_, wire| {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nx");
        Then::Hold
    });
    let scene = ScriptedScene::before(&upstream);

    assert_eq!(
        TlsClient::of(scene.ops())
            .connect(scene.gateway.admin())
            .unwrap()
            .get("/1.0/x")
            .unwrap()
            .head
            .status,
        502
    );
    // HTTP/2 has no such upgrade.
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    assert_eq!(http2.get("/1.0/x").unwrap().status, 502);
}

#[test]
fn a_websocket_of_a_real_incus_works() {
    let scene = Scene::start();
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(
        head("GET", "/1.0/events?type=lifecycle&all-projects=true", "websocket")
            + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .unwrap();
    let answer = read_101_alone(&mut raw);
    // The example of RFC 6455 §1.3.
    assert_eq!(
        answer.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );

    // A ping with a zero mask; the pong shows that Incus is ready.
    raw.send(b"\x89\x84\0\0\0\0ping").unwrap();
    assert_eq!(read_frame(&mut raw), (0x8a, b"ping".to_vec()));
    scene.incus.run(&["project", "create", "--quiet", "second"]).ok();
    let (kind, event) = read_frame(&mut raw);
    assert_eq!(kind, 0x81);
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(event["metadata"]["action"], "project-created");

    scene.incus.kill();
    let end = raw.end();
    assert!(matches!(end, End::Reset | End::Cut), "{end}");
}

/// Returns the first byte and the payload of the next frame that is no ping.
fn read_frame(raw: &mut Raw) -> (u8, Vec<u8>) {
    loop {
        let start = raw.read_exactly(2).unwrap();
        let length = match start[1] {
            126 => usize::from(u16::from_be_bytes(raw.read_exactly(2).unwrap().try_into().unwrap())),
            127 => panic!("no event is that long"),
            short => usize::from(short),
        };
        let payload = raw.read_exactly(length).unwrap();
        if start[0] != 0x89 {
            return (start[0], payload);
        }
    }
}

#[test]
fn sftp_of_a_real_incus_works() {
    let scene = Scene::start();
    let images = Images::new();
    let image = images.bootable("busybox");
    image.import(&scene.incus, &["--alias", "busybox"]);
    scene.incus.run(&["init", "--quiet", "busybox", "one"]).ok();

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(head("GET", "/1.0/instances/one/sftp", "sftp") + "\r\n")
        .unwrap();
    read_101_alone(&mut raw);
    // SSH_FXP_INIT, version 3; the answer is SSH_FXP_VERSION.
    raw.send(b"\0\0\0\x05\x01\0\0\0\x03").unwrap();
    let length = u32::from_be_bytes(raw.read_exactly(4).unwrap().try_into().unwrap());
    let answer = raw.read_exactly(length as usize).unwrap();
    assert_eq!(answer[..5], *b"\x02\0\0\0\x03");
}

#[test]
fn only_admins_get_an_upgrade() {
    let upstream = Scripted::start(|request, wire| {
        switch(request, wire, "");
        wire.echo()
    });
    let scene = ScriptedScene::before(&upstream);
    for (client, port) in [
        (TlsClient::tls13(), scene.gateway.admin()),
        (TlsClient::tls13(), scene.gateway.public()),
        (TlsClient::of(scene.ops()), scene.gateway.public()),
    ] {
        let mut raw = client.connect(port).unwrap();
        let answer = raw.ask(head("GET", "/1.0/events", "websocket") + "\r\n").unwrap();
        assert_eq!(answer.head.status, 403);
        assert_eq!(answer.head.field("upgrade"), None);
    }
    assert!(upstream.requests().is_empty());
}
