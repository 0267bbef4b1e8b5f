//! The system clock changes: certificates are validated against the current time, and the log uses it; nothing else depends on
//! it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testing::certificates::{Certificate, Certificates};
use testing::clock::Clock;
use testing::gateway::Gateway;
use testing::scene::Setup;
use testing::scripted::{FINGERPRINT, Scripted, Then};
use testing::tls::{End, PATIENCE, TlsClient};

struct Scene {
    gateway: Gateway,
    clock: Clock,
    ops: Certificate,
    /// A certificate that is valid from 2020 to 2021.
    old: Certificate,
    _certificates: Certificates,
}

impl Scene {
    fn before(upstream: &Scripted, limits: &str) -> Self {
        let certificates = Certificates::new();
        let mut setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
        let old = certificates.expired("old");
        setup.admins.push(("old".to_owned(), old.clone()));
        setup.more = format!("[limits]\n{limits}\n[log]\nformat = \"json\"\n");
        let clock = Clock::without_offset(certificates.folder());
        let gateway = Gateway::try_start_command(clock.command(), &setup.text());
        Self {
            gateway: gateway.unwrap_or_else(|ended| panic!("the gateway does not start: {ended:#?}")),
            clock,
            ops: setup.admins[0].1.clone(),
            old,
            _certificates: certificates,
        }
    }
}

/// Responds at once, except to the slow and the endless paths.
fn upstream() -> Scripted {
    Scripted::start(|request, wire| match request.target().as_str() {
        "/1.0/tunnel" => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        "/1.0/long" => wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na part"),
        "/1.0/upload" => wire.read_body().map_or(Then::Cut, |_| Then::KeepAlive),
        "/1.0/slow" => {
            std::thread::sleep(Duration::from_secs(1));
            wire.answer("200 OK", "text/plain", b"x")
        }
        _ => wire.answer("200 OK", "text/plain", b"x"),
    })
}

#[test]
fn admin_certificates_are_validated_at_the_current_time() {
    let upstream = upstream();
    let scene = Scene::before(&upstream, "");
    let client = TlsClient::of(&scene.old);
    let connect = || client.connect(scene.gateway.admin()).unwrap();
    assert_eq!(connect().get("/1.0/x").unwrap().head.status, 403);
    for out in ["+0".to_owned(), in_year(2018)] {
        scene.clock.set_offset(&in_year(2020));
        let mut kept = connect();
        assert_eq!(kept.get("/1.0/x").unwrap().head.status, 200);
        scene.clock.set_offset(&out);
        // The admin's connection may be closed already.
        assert!(
            kept.get("/1.0/x").is_ok_and(|answer| answer.head.status == 403) || kept.end() != End::Silence,
            "{out}"
        );
        assert_eq!(connect().get("/1.0/x").unwrap().head.status, 403, "{out}");
    }
}

#[test]
fn an_expired_admin_loses_all_open_connections() {
    let upstream = upstream();
    let scene = Scene::before(&upstream, "");
    let begin = |client: &TlsClient, path: &str, more: &str, status: u16| {
        let mut raw = client.connect(scene.gateway.admin()).unwrap();
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: gate.test\r\n{more}\r\n"))
            .unwrap();
        if status > 0 {
            assert_eq!(raw.read_head().unwrap().status, status, "{path}");
        }
        raw
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    // In 1977, the certificate of `ops` is valid and that of `old` is not yet.
    for out in ["+0", "-18000d"] {
        scene.clock.set_offset(&in_year(2020));
        let (old, ops) = (TlsClient::of(&scene.old), TlsClient::of(&scene.ops));
        let earlier = upstream.requests().len();
        let mut http1 = [
            ("tunnel", begin(&old, "/1.0/tunnel", upgrade, 101)),
            ("download", begin(&old, "/1.0/long", "", 200)),
            ("upload", begin(&old, "/1.0/upload", "Content-Length: 9\r\n", 0)),
            ("idle", old.connect(scene.gateway.admin()).unwrap()),
        ];
        let mut http2 = old.connect_http2(scene.gateway.admin()).unwrap();
        assert_eq!(http2.get("/1.0/x").unwrap().status, 200);
        assert_eq!(http1[3].1.get("/1.0/x").unwrap().head.status, 200);
        let mut others = begin(&ops, "/1.0/tunnel", upgrade, 101);
        upstream.wait_for_requests(earlier + 6);
        let seen = scene.gateway.log().len();

        scene.clock.set_offset(out);
        for (what, raw) in &mut http1 {
            // Only the rest of the download arrives, and no response to the upload.
            let (rest, end) = raw.read_to_end();
            assert!(!rest.starts_with(b"HTTP"), "{what}: {rest:?}");
            assert_ne!(end, End::Silence, "the {what} is still open at {out}");
        }
        assert!(http2.is_closed_within(PATIENCE), "HTTP/2 is still open at {out}");
        for path in ["/1.0/tunnel", "/1.0/long", "/1.0/upload"] {
            let record = |line: &str| line.contains("incus_gate::access") && line.contains(path);
            let record = scene.gateway.wait_for_line_after(seen, record).unwrap();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            assert_eq!(
                (&record["aborted_by"], &record["admin"]),
                (&"expired".into(), &"old".into())
            );
        }
        others.send("ping").unwrap();
        assert_eq!(others.read_exactly(4).unwrap(), b"ping");
    }
}

/// Returns the clock's offset from now to the middle of a year, in days.
fn in_year(year: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("-{}d", now.as_secs() / 86_400 - (year - 1970) * 365 - 180)
}

#[test]
fn timeouts_do_not_depend_on_the_system_clock() {
    let upstream = upstream();
    let scene = Scene::before(&upstream, "idle_timeout = \"3s\"");
    let ops = TlsClient::of(&scene.ops);
    for offset in ["+3650d", "-3650d"] {
        scene.clock.set_offset("+0");
        let mut idle = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
        assert_eq!(idle.get("/1.0/images").unwrap().head.status, 200);
        let mut slow = ops.connect(scene.gateway.admin()).unwrap();
        let (seen, begun) = (scene.gateway.log().len(), Instant::now());
        slow.send("GET /1.0/slow HTTP/1.1\r\nHost: gate.test\r\n\r\n").unwrap();
        upstream.wait_for_requests(1);
        scene.clock.set_offset(offset);

        // Requests in progress complete, and their logged duration is correct.
        assert_eq!(slow.read_answer().unwrap().head.status, 200, "{offset}");
        let line = scene.gateway.wait_for_log_after(seen, "/1.0/slow");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let taken = Duration::from_micros(line["duration_us"].as_u64().unwrap());
        assert!(
            taken <= begun.elapsed() && taken >= Duration::from_millis(500),
            "{offset}: {line}"
        );
        // The log line has the time of the changed clock.
        let year: i32 = line["timestamp"].as_str().unwrap()[..4].parse().unwrap();
        let wanted = line_year(offset);
        assert!((year - wanted).abs() <= 1, "{offset}: {line}");

        // The change does not count as idle time, and the idle timeout still works.
        assert_eq!(idle.get("/1.0/images").unwrap().head.status, 200, "{offset}");
        let since = Instant::now();
        assert_eq!(idle.end(), End::CloseNotify, "{offset}");
        assert!(
            since.elapsed() >= Duration::from_secs(2),
            "{offset}: {:?}",
            since.elapsed()
        );
    }
    // The list does not count as years old.
    scene.clock.set_offset("+3650d");
    let export = format!("/1.0/images/{FINGERPRINT}");
    let mut stranger = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    assert_eq!(stranger.get(&export).unwrap().head.status, 200);
    drop(upstream);
    scene.clock.set_offset("+0");
    assert_eq!(stranger.get(&export).unwrap().head.status, 200);
    scene.clock.set_offset("+3650d");
    assert_eq!(stranger.get(&export).unwrap().head.status, 200);
}

/// Returns the year about ten years from now, or ago.
fn line_year(offset: &str) -> i32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days: i64 = offset.trim_end_matches('d').parse().unwrap();
    let days = i64::try_from(now.as_secs() / 86_400).unwrap() + days;
    i32::try_from(1970 + days * 4 / 1461).unwrap()
}
