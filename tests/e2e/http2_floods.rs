//! Known attacks on HTTP/2 end with the attacker's connection and do not exhaust the gateway's memory.

use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::frames::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame};
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
