//! No request is parsed as another, or as two: Incus receives what the gateway has parsed, and rejected requests never reach
//! Incus (RFC 9112 §11, RFC 9113 §10.3).
//!
//! The cases are in the text files in `smuggling/`, each with its expected result; `smuggling/corpus.rs` documents the format.
//! Each case is sent to the admin port, with and without an administrator's certificate, and to the public port.

mod corpus;
mod seen;

use std::collections::HashSet;

use corpus::{Case, Expected};
use seen::{Asker, Log, Seen, Version};
use testing::monitor::Monitor;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Request;
use testing::tls::TlsClient;

/// All cases for HTTP/1.1.
const HTTP1: [&str; 3] = [
    include_str!("smuggling/framing.txt"),
    include_str!("smuggling/lines.txt"),
    include_str!("smuggling/targets.txt"),
];
const HTTP2: [&str; 1] = [include_str!("smuggling/http2.txt")];

#[test]
fn http1_requests_are_parsed_in_one_way_only() {
    let cases = corpus::parse(1, &HTTP1);
    assert!(cases.len() >= 100, "{}", cases.len());
    all_as_expected(&cases, Version::Http1);
}

#[test]
fn http2_requests_cannot_smuggle_http1() {
    let cases = corpus::parse(2, &HTTP2);
    assert!(cases.len() >= 50, "{}", cases.len());
    all_as_expected(&cases, Version::Http2);
}

#[test]
fn incus_logs_exactly_the_requests_that_were_parsed() {
    // Go answers the first before Incus sees it, and Incus does not log the second.
    const UNLOGGED: [&str; 2] = ["OPTIONS *", "GET /"];
    // The gateway's own requests.
    const OWN: [&str; 4] = [
        "GET /1.0",
        "GET /1.0/events?type=lifecycle&all-projects=true",
        "GET /1.0/images?recursion=1",
        "GET /1.0/projects?recursion=1",
    ];
    let (http1, http2) = (corpus::parse(1, &HTTP1), corpus::parse(2, &HTTP2));
    let scene = Scene::start();
    let monitor = Monitor::of(&scene.incus);
    let nothing = Log::default();
    let (mut expected, mut perhaps) = (Vec::new(), Vec::new());
    for (cases, version) in [(http1, Version::Http1), (http2, Version::Http2)] {
        // Incus may or may not log a truncated request.
        let cases = cases.iter().filter(|case| !matches!(case.expected, Expected::Torn));
        for (case, asker) in cases.flat_map(|case| Asker::ALL.map(|asker| (case, asker))) {
            let (client, port) = asker.of(&scene.gateway, scene.ops());
            let seen = version.ask(&client, port, case, &nothing, asker);
            assert!(!seen.silent, "{asker:?}: {}", case.name);
            expected.extend(Seen::expected(&case.expected, asker, version).incus);
            let early = case.perhaps().and_then(|request| request.rsplit_once(' '));
            perhaps.extend(early.map(|(request, _)| request.to_owned()));
        }
    }
    let expected = expected
        .iter()
        .map(|request| request.rsplit_once(' ').expect("a length").0);
    let mut expected: Vec<&str> = expected.filter(|request| !UNLOGGED.contains(request)).collect();
    let mut last = TlsClient::of(scene.ops())
        .connect(scene.gateway.admin())
        .expect("a handshake");
    last.get("/1.0/last").expect("an answer");
    let logged = std::iter::from_fn(|| {
        let request = monitor.request();
        Some(format!("{} {}", request.method, request.target))
    });
    let logged = logged.take_while(|request| request != "GET /1.0/last");
    let is_asked_for = |request: &String| !OWN.contains(&request.as_str()) && !perhaps.contains(request);
    let mut logged: Vec<String> = logged.filter(is_asked_for).collect();
    // HTTP/2 streams may complete in any order.
    expected.sort_unstable();
    logged.sort_unstable();
    assert_eq!(logged, expected);
}

fn all_as_expected(cases: &[Case], version: Version) {
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name stands twice");
    assert!(cases.iter().all(|case| case.rule.starts_with("RFC ")));
    let perhaps: HashSet<&str> = cases.iter().filter_map(Case::perhaps).collect();
    let (upstream, log) = seen::recording_upstream();
    let scene = ScriptedScene::before(&upstream);
    let mut differences = String::new();
    for asker in Asker::ALL {
        let (client, port) = asker.of(&scene.gateway, scene.ops());
        for case in cases {
            let expected = Seen::expected(&case.expected, asker, version);
            let mut seen = version.ask(&client, port, case, &log, asker);
            seen.incus.retain(|request| !perhaps.contains(request.as_str()));
            if seen != expected {
                let Case { name, rule, .. } = case;
                differences += &format!("{asker:?}: {name} ({rule})\n  expected {expected:?}\n  saw      {seen:?}\n");
            }
        }
    }
    assert!(differences.is_empty(), "{} cases\n{differences}", cases.len());
    for request in upstream.requests() {
        assert_is_plain(&request);
    }
}

/// Panics if the forwarded request is ambiguous for any parser.
fn assert_is_plain(request: &Request) {
    let head = String::from_utf8(request.head.clone()).expect("no case has other bytes in a head that goes up");
    let lines = head.strip_suffix("\r\n\r\n").expect("an end").split("\r\n");
    assert!(lines.clone().all(|line| !line.contains(['\r', '\n', '\0'])), "{head}");
    assert!(request.line().ends_with(" HTTP/1.1"), "{head}");
    assert_eq!(request.values("host").len(), 1, "{head}");
    let lengths = request.values("content-length");
    let codings = request.values("transfer-encoding");
    assert!(lengths.len() + codings.len() <= 1, "{head}");
    assert!(codings.iter().all(|coding| coding == "chunked"), "{head}");
    for name in ["connection", "te", "trailer", "upgrade"] {
        let is_upgrade = request.field("upgrade").as_deref() == Some("h2c");
        assert!(request.field(name).is_none() || is_upgrade, "{head}");
    }
}
