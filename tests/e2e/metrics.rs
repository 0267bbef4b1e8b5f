//! The metrics listener is correct: the metrics match the requests, `/healthz` and `/readyz` report the current state, and the
//! ports for clients do not expose any of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testing::certificates::Certificates;
use testing::client::{Answer, Curl};
use testing::gateway::{Gateway, PATIENCE};
use testing::images::{Images, Kind};
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Scripted;
use testing::tls::TlsClient;

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

fn scene() -> Scene {
    Scene::start_with(|setup| setup.more = METRICS.to_owned())
}

fn ask(gateway: &Gateway, path: &str) -> Answer {
    Curl::get(format!("{}{path}", gateway.metrics_url())).answer()
}

/// Returns the value of this metric, with its labels in their order.
fn figure(gateway: &Gateway, name: &str) -> Option<f64> {
    let figures = ask(gateway, "/metrics").text();
    let value = figures
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

/// A request may end a moment after its client has received everything.
#[track_caller]
fn wait_for_figure(gateway: &Gateway, name: &str, wanted: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = figure(gateway, name);
        if found == Some(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {found:?}, not {wanted}");
    }
}

#[track_caller]
fn wait_for_readiness(gateway: &Gateway, status: u16, reason: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(gateway, "/readyz");
        if answer.status == status {
            assert!(answer.text().contains(reason), "{}", answer.text());
            return;
        }
        assert!(Instant::now() < deadline, "{}: {}", answer.status, answer.text());
    }
}

#[test]
fn requests_and_bytes_are_counted() {
    let scene = scene();
    let gateway = &scene.gateway;
    let image = Images::new().random(Kind::Unified, "big", 1);
    image.import(&scene.incus, &["--public"]);
    scene.refresh();
    wait_for_figure(
        gateway,
        r#"incus_gate_requests_total{port="public",endpoint="alias",status="404"}"#,
        1.0,
    );
    let sent_before = figure(gateway, r#"incus_gate_sent_bytes_total{port="public"}"#).unwrap();

    let mut stranger = TlsClient::tls13().connect(gateway.public()).unwrap();
    let mut sent = 0;
    for (target, status) in [
        ("/1.0", 200),
        ("/1.0/images", 200),
        ("/1.0/images?recursion=1", 200),
        (&format!("/1.0/images/{}", image.fingerprint), 200),
        (&format!("/1.0/images/{}/export", image.fingerprint), 200),
        ("/1.0/images/aliases", 200),
        ("/1.0/instances", 403),
    ] {
        let answer = stranger.get(target).unwrap();
        assert_eq!(answer.head.status, status, "{target}");
        sent += answer.body.len();
    }
    for (question, status, count) in [
        ("server", 200, 1),
        ("images", 200, 2),
        ("image", 200, 1),
        ("export", 200, 1),
        ("aliases", 200, 1),
        ("rejected", 403, 1),
    ] {
        let labels = format!(r#"{{port="public",endpoint="{question}",status="{status}"}}"#);
        wait_for_figure(gateway, &format!("incus_gate_requests_total{labels}"), f64::from(count));
        let labels = format!(r#"{{port="public",endpoint="{question}"}}"#);
        let name = format!("incus_gate_request_duration_seconds_count{labels}");
        wait_for_figure(gateway, &name, f64::from(count));
    }
    let name = r#"incus_gate_sent_bytes_total{port="public"}"#;
    wait_for_figure(gateway, name, sent_before + sent as f64);
    wait_for_figure(gateway, r#"incus_gate_received_bytes_total{port="public"}"#, 0.0);

    let mut admin = TlsClient::of(scene.ops()).connect(gateway.admin()).unwrap();
    let post = "POST /1.0/profiles HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 15\r\n\r\n{\"name\": \"one\"}";
    assert_eq!(admin.ask(post).unwrap().head.status, 201);
    assert_eq!(admin.get("/1.0/no-such-thing").unwrap().head.status, 404);
    for (question, status) in [("profiles", 201), ("other", 404)] {
        let labels = format!(r#"{{port="admin",endpoint="{question}",status="{status}"}}"#);
        wait_for_figure(gateway, &format!("incus_gate_requests_total{labels}"), 1.0);
    }
    wait_for_figure(gateway, r#"incus_gate_received_bytes_total{port="admin"}"#, 15.0);
    assert!(figure(gateway, "incus_gate_upstream_response_seconds_count").unwrap() > 3.0);
    assert!(figure(gateway, "incus_gate_upstream_connections_opened_total").unwrap() > 0.0);
    assert!(figure(gateway, "incus_gate_upstream_connections_reused_total").unwrap() > 0.0);
    assert!(figure(gateway, "incus_gate_upstream_connections_idle").unwrap() > 0.0);
    wait_for_figure(gateway, "incus_gate_catalogue_images", 1.0);
    wait_for_figure(gateway, "incus_gate_catalogue_failing", 0.0);
    assert!(figure(gateway, "incus_gate_catalogue_age_seconds").unwrap() < 60.0);
}

#[test]
fn connections_handshakes_and_rejections_are_counted() {
    let upstream = Scripted::start(|_, wire| wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"));
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = format!("{METRICS}[limits]\nmax_connections = 10\nrequests_per_second = 1\n");
    });
    let gateway = &scene.gateway;
    let open = |port| format!(r#"incus_gate_connections{{port="{port}"}}"#);
    let handshakes = |port, result| format!(r#"incus_gate_handshakes_total{{port="{port}",result="{result}"}}"#);
    let refusals = |reason| format!(r#"incus_gate_rejected_total{{reason="{reason}"}}"#);
    wait_for_figure(gateway, r#"incus_gate_connections_limit{port="public"}"#, 5.0);
    wait_for_figure(gateway, r#"incus_gate_connections_limit{port="admin"}"#, 10.0);
    wait_for_figure(gateway, &open("admin"), 0.0);

    let mut admin = TlsClient::of(scene.ops()).connect(gateway.admin()).unwrap();
    wait_for_figure(gateway, &open("admin"), 1.0);
    wait_for_figure(gateway, &handshakes("admin", "done"), 1.0);
    admin
        .send("GET /1.0/events HTTP/1.1\r\nHost: gate.test\r\n\r\n")
        .unwrap();
    assert_eq!(admin.read_exactly(12).unwrap(), b"HTTP/1.1 200");
    drop(admin);
    wait_for_figure(gateway, &open("admin"), 0.0);
    wait_for_figure(
        gateway,
        r#"incus_gate_requests_aborted_total{port="admin",reason="client"}"#,
        1.0,
    );

    for (path, reason, certificate) in [
        ("/1.0", "no_certificate", None),
        ("/1.0", "unknown_certificate", Some(scene.certificates.client("other"))),
    ] {
        let mut curl = Curl::get(format!("{}{path}", gateway.admin_url()));
        if let Some(certificate) = &certificate {
            curl = curl.presenting(certificate);
        }
        assert_eq!(curl.answer().status, 403);
        wait_for_figure(gateway, &refusals(reason), 1.0);
    }
    let name = r#"incus_gate_requests_total{port="admin",endpoint="rejected",status="403"}"#;
    wait_for_figure(gateway, name, 2.0);

    for (first_bytes, result) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "plain_http"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "not_tls"),
        (b"", "client_disconnected"),
    ] {
        let mut tcp = TcpStream::connect(gateway.public()).unwrap();
        tcp.write_all(first_bytes).unwrap();
        tcp.shutdown(std::net::Shutdown::Write).unwrap();
        wait_for_figure(gateway, &handshakes("public", result), 1.0);
    }
    let certificates = Certificates::new();
    let other = certificates.server("other");
    let curl = Curl::get(gateway.public_url()).trusting(&other);
    curl.send().expect_err("another certificate");
    wait_for_figure(gateway, &handshakes("public", "certificate_rejected"), 1.0);
    wait_for_figure(gateway, &open("public"), 0.0);

    // A connection above the limit evicts the first one.
    let crowd: Vec<_> = (0..6).map(|_| TcpStream::connect(gateway.public()).unwrap()).collect();
    wait_for_figure(gateway, &refusals("evicted"), 1.0);
    wait_for_figure(gateway, &open("public"), 5.0);
    drop(crowd);
    wait_for_figure(gateway, &handshakes("public", "client_disconnected"), 6.0);
}

#[test]
fn readiness_follows_the_state_of_incus() {
    let scene = scene();
    let gateway = &scene.gateway;
    assert_eq!(ask(gateway, "/healthz").text(), "ok\n");
    assert_eq!(ask(gateway, "/readyz").text(), "ok\n");
    wait_for_figure(gateway, "incus_gate_upstream_up", 1.0);
    wait_for_figure(gateway, "incus_gate_upstream_trusted", 1.0);

    scene.incus.stop();
    wait_for_readiness(gateway, 503, "cannot connect to Incus");
    assert_eq!(ask(gateway, "/healthz").status, 200);
    wait_for_figure(gateway, "incus_gate_upstream_up", 0.0);
    wait_for_figure(gateway, "incus_gate_upstream_trusted", 0.0);
    assert!(figure(gateway, r#"incus_gate_upstream_errors_total{kind="connect"}"#).unwrap() > 0.0);
    // This is only detected by a request.
    assert_eq!(scene.get("/1.0/images/aliases/no-such-name").status, 503);
    wait_for_figure(gateway, "incus_gate_catalogue_failing", 1.0);
    assert!(figure(gateway, r#"incus_gate_catalogue_fetches_total{result="failed"}"#).unwrap() > 0.0);

    scene.incus.start_again();
    wait_for_readiness(gateway, 200, "ok");
    wait_for_figure(gateway, "incus_gate_catalogue_failing", 0.0);
}

#[test]
fn a_gateway_that_incus_does_not_trust_is_not_ready() {
    let mut scene = scene();
    scene.setup.local = scene.certificates.client("nobody");
    let gateway = Gateway::start(&scene.setup.text());
    wait_for_readiness(&gateway, 503, "does not trust upstream.client_certificate");
    wait_for_figure(&gateway, "incus_gate_upstream_up", 1.0);
    wait_for_figure(&gateway, "incus_gate_upstream_trusted", 0.0);
}

#[test]
fn a_drain_makes_the_gateway_not_ready() {
    let upstream = Scripted::start(|_, wire| wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = METRICS.to_owned());
    let mut admin = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    admin
        .send("GET /1.0/events HTTP/1.1\r\nHost: gate.test\r\n\r\n")
        .unwrap();
    assert_eq!(admin.read_exactly(12).unwrap(), b"HTTP/1.1 200");
    scene.gateway.signal("TERM");
    wait_for_readiness(&scene.gateway, 503, "draining");
    assert_eq!(ask(&scene.gateway, "/healthz").status, 200);
    wait_for_figure(&scene.gateway, r#"incus_gate_connections{port="admin"}"#, 1.0);
}

#[test]
fn reloads_and_certificate_expiry_are_exported() {
    let scene = scene();
    let gateway = &scene.gateway;
    let expiry = |labels: &str| format!("incus_gate_certificate_expiry_timestamp_seconds{{{labels}}}");
    for labels in [
        r#"certificate="public.tls""#,
        r#"certificate="admin.tls""#,
        r#"certificate="upstream.client_certificate""#,
        r#"certificate="upstream.server_certificate""#,
        r#"certificate="admin.clients",admin="ops""#,
    ] {
        assert!(figure(gateway, &expiry(labels)).unwrap() > 1.7e9, "{labels}");
    }
    wait_for_figure(gateway, "incus_gate_config_last_reload_successful", 1.0);
    let loaded = figure(gateway, "incus_gate_config_last_reload_success_timestamp_seconds").unwrap();
    assert!(figure(gateway, "process_start_time_seconds").unwrap() <= loaded + 1.0);

    let mut setup = scene.setup.clone();
    let expired = scene.certificates.expired("late");
    setup.admins.push(("late".to_owned(), expired));
    gateway.reconfigure("nonsense");
    gateway.signal("HUP");
    gateway.wait_for_log("reload failed");
    wait_for_figure(gateway, "incus_gate_config_last_reload_successful", 0.0);
    gateway.reconfigure(&setup.text());
    gateway.signal("HUP");
    wait_for_figure(gateway, "incus_gate_config_last_reload_successful", 1.0);
    let late = figure(gateway, &expiry(r#"certificate="admin.clients",admin="late""#)).unwrap();
    assert!(late < loaded, "{late}");
}

#[test]
fn metrics_are_served_to_get_and_on_their_own_port_only() {
    let scene = scene();
    let gateway = &scene.gateway;
    let url = gateway.metrics_url();
    let figures = ask(gateway, "/metrics");
    let kind = figures.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(figures.text().ends_with("# EOF\n"));
    for (path, method, status) in [
        ("/metrics", "POST", 405),
        ("/readyz", "DELETE", 405),
        ("/", "GET", 404),
        ("/1.0", "GET", 404),
    ] {
        assert_eq!(Curl::get(format!("{url}{path}")).method(method).answer().status, status);
    }
    let head = Curl::get(format!("{url}/metrics")).with(["--head"]).answer();
    assert!(head.status == 200 && !head.text().contains("# EOF"), "{}", head.text());
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(scene.get(path).status, 403);
        assert_eq!(Curl::get(format!("{}{path}", gateway.admin_url())).answer().status, 403);
    }
    assert!(
        Scene::start()
            .gateway
            .log()
            .iter()
            .all(|line| !line.contains("port=metrics")),
        "off"
    );
}

/// A silent connection does not block others, and is closed.
#[test]
fn idle_connections_to_the_metrics_port_are_closed() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = METRICS.to_owned());
    let url = scene.gateway.metrics_url();
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(ask(&scene.gateway, "/healthz").status, 200);
    for mut tcp in silent {
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(tcp.read(&mut [0]).unwrap(), 0, "closed");
    }
}

#[test]
fn silent_connections_delay_no_probe() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = METRICS.to_owned());
    let metrics: SocketAddr = scene
        .gateway
        .metrics_url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let socket = scene.gateway.status_socket();
    // Silent connections are closed after two seconds, and a busy machine may be as slow; so try again.
    let is_answered_at_once = |_| {
        let tcp: Vec<_> = (0..200).map(|_| TcpStream::connect(metrics).unwrap()).collect();
        let unix: Vec<_> = (0..200).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        assert_eq!(ask(&scene.gateway, "/healthz").status, 200);
        assert!(
            scene
                .gateway
                .command("status")
                .output()
                .unwrap()
                .status
                .code()
                .is_some()
        );
        let is_open = |read: std::io::Result<usize>| read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        let tcp = tcp.iter().filter(|stream| {
            stream.set_nonblocking(true).unwrap();
            is_open((&**stream).read(&mut [0]))
        });
        let unix = unix.iter().filter(|stream| {
            stream.set_nonblocking(true).unwrap();
            is_open((&**stream).read(&mut [0]))
        });
        let (tcp, unix) = (tcp.count(), unix.count());
        assert!(tcp <= 128 && unix <= 128, "{tcp} and {unix} are held open");
        // Sequential handling would serve these last.
        tcp > 16 && unix > 16
    };
    assert!((0..5).any(is_answered_at_once), "the probe waited for those before it");
}
