//! Invalid frames end as RFC 9113 requires, on both ports, and valid ones get a response. A list names the differences.
//!
//! Floods of frames are in `http2_floods.rs`, malformed requests in `smuggling/http2.txt`.

mod cases;
mod seen;

use std::collections::HashSet;

use cases::{CASES, Case, DIFFERENCES};
use seen::{Port, Seen};
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::TlsClient;

#[test]
fn invalid_frames_end_as_rfc_9113_requires() {
    let names: HashSet<&str> = CASES.iter().chain(DIFFERENCES).map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len() + DIFFERENCES.len(), "a name stands twice");
    assert!(names.len() >= 60, "{}", names.len());

    let upstream = Scripted::start(|_, wire| {
        let body = wire.read_body();
        body.map_or(testing::scripted::Then::Cut, |_| {
            wire.answer("200 OK", "text/plain", b"welcome")
        })
    });
    let scene = ScriptedScene::before(&upstream);
    let ports = [
        (Port::Admin, TlsClient::of(scene.ops()), scene.gateway.admin()),
        (Port::Public, TlsClient::tls13(), scene.gateway.public()),
    ];
    let mut differences = String::new();
    for (port, client, address) in ports {
        for case in CASES.iter().chain(DIFFERENCES) {
            let Case {
                name, rule, expected, ..
            } = case;
            let seen = Seen::of(&client, address, port, case);
            if !seen.is(expected) {
                differences += &format!("{port:?}: {name} ({rule})\n  expected {expected:?}\n  saw      {seen:?}\n");
            }
        }
    }
    assert!(differences.is_empty(), "{} cases\n{differences}", names.len());
    // No client can fill the log with warnings.
    let warnings: Vec<_> = scene
        .gateway
        .log()
        .into_iter()
        .filter(|line| line.contains("WARN"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}
