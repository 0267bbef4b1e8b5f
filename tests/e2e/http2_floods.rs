//! Known attacks on HTTP/2 end with the attacker's connection and do not exhaust the gateway's memory.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::frames::{
    ACK, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame,
};
use testing::tls::{End, Raw, TlsClient, frames};

const MIB: u64 = 1 << 20;

/// `GET /1.0` in HPACK without a table.
fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(4, "/1.0"), (1, "gate.test")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block
}

fn connect(scene: &ScriptedScene) -> Raw {
    let mut raw = frames::connect(&TlsClient::tls13(), scene.gateway.public());
    raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    raw
}

/// Sends frames until the gateway ends the connection.
fn flood(scene: &ScriptedScene, first: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let before = scene.gateway.memory_now();
    let mut raw = connect(scene);
    raw.send(first).unwrap();
    let mut sent = 0;
    while sent < 100_000 {
        // The connection must end, in whatever way.
        match raw.send(next(sent)) {
            Ok(()) => sent += 1,
            Err(End::Silence) => panic!("it takes no more, and does not say so"),
            Err(_) => break,
        }
    }
    assert!(sent < 100_000, "it never had enough");
    let more = scene.gateway.memory_peak().saturating_sub(before);
    assert!(more < 4 * MIB, "it took {more} bytes of memory");
    sent
}

#[test]
fn continuation_floods_and_rapid_resets_end_the_connection() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before(&upstream);

    let piece = [vec![0, 1, b'a', 0x7f, 0x81, 0x7d], vec![b'a'; 16_000 - 6]].concat();
    let head = frame(HEADERS, END_STREAM, 1, &request());
    let sent = flood(&scene, head, |_| frame(CONTINUATION, 0, 1, &piece));
    eprintln!("{sent} large CONTINUATION frames");
    let head = frame(HEADERS, END_STREAM, 1, &request());
    let sent = flood(&scene, head, |_| frame(CONTINUATION, 0, 1, &[]));
    eprintln!("{sent} empty CONTINUATION frames");

    let sent = flood(&scene, Vec::new(), |n| {
        let mut both = Vec::new();
        for number in 0..100 {
            let stream = 1 + 2 * (n * 100 + number);
            both.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &request()));
            both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        both
    });
    eprintln!("{sent} hundreds of streams begun and reset");

    let mut http2 = TlsClient::tls13().connect_http2(scene.gateway.public()).unwrap();
    assert_eq!(http2.get("/1.0").unwrap().status, 200);
}

/// Number of PING frames sent at once; less than the kernels buffer.
const PINGS: usize = 10_000;

/// Sends many PING frames from this address, and returns how many are answered at once.
fn pongs(client: TlsClient, from: [u8; 4], port: SocketAddr) -> usize {
    let mut raw = client.alpn(&["h2"]).connect_announced(from.into(), port).unwrap();
    raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    raw.send(frame(PING, 0, 0, &[0; 8]).repeat(PINGS)).unwrap();
    count_pongs(&mut raw, PINGS)
}

fn count_pongs(raw: &mut Raw, most: usize) -> usize {
    raw.patience = Duration::from_secs(2);
    let mut answered = 0;
    while answered < most
        && let Ok(frame) = raw.read_frame()
    {
        answered += usize::from(frame.kind == PING && frame.flags == ACK);
    }
    answered
}

/// A record of one byte has 23, and costs as much to decrypt as one of a few hundred.
#[test]
fn bytes_count_with_their_tls_records() {
    const PINGS: usize = 300;
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more = "[limits]\nrequests_per_second = 1\n".to_owned();
    });
    let stranger = IpAddr::from([203, 0, 113, 1]);
    let client = TlsClient::tls13().alpn(&["h2"]);
    let mut raw = client.connect_announced(stranger, scene.gateway.public()).unwrap();
    raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    // 5 KiB in records of 117 KiB. A burst has 20 KiB.
    for byte in frame(PING, 0, 0, &[0; 8]).repeat(PINGS) {
        raw.send([byte]).unwrap();
    }
    let answered = count_pongs(&mut raw, PINGS);
    assert!((20..150).contains(&answered), "{answered} frames were read");
}

#[test]
fn a_stranger_is_heard_no_faster_than_requests_may_come() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more_admin = setup.more_public.clone();
        setup.more = "[limits]\nrequests_per_second = 1\n".to_owned();
    });
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    let stranger = [203, 0, 113, 1];
    // A burst of 20 KiB, and what has been read with its end.
    for (from, port) in [(stranger, public), ([203, 0, 113, 2], admin)] {
        let answered = pongs(TlsClient::tls13(), from, port);
        assert!(
            (1_000..5_000).contains(&answered),
            "{port}: {answered} frames were read"
        );
    }
    // By address: another connection of the same one waits too, and no other client.
    let again = pongs(TlsClient::tls13(), stranger, public);
    assert!(again < 1_000, "{again} frames were read");
    let mut other = TlsClient::tls13()
        .connect_announced(IpAddr::from([203, 0, 113, 3]), public)
        .unwrap();
    assert_eq!(other.get("/1.0").unwrap().head.status, 200);
    assert_eq!(
        pongs(TlsClient::of(scene.ops()), stranger, admin),
        PINGS,
        "an admin is not limited"
    );
}
