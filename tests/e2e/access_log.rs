//! Every request has exactly one log line, written when it ends, with the request, the client and the result. Only the gateway
//! can write to its log.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::Value;
use testing::certificates::Certificates;
use testing::client::{Client, Curl};
use testing::gateway::{Gateway, binary};
use testing::images::{Images, Kind};
use testing::incus::free_address;
use testing::run::{Started, signal};
use testing::scene::{Scene, ScriptedScene, Setup};
use testing::scripted::Scripted;
use testing::tls::{End, TlsClient};

const JSON: &str = "[log]\nformat = \"json\"\n";
const ACCESS: &str = "incus_gate::access";

fn scene() -> Scene {
    Scene::start_with(|setup| setup.more = JSON.to_owned())
}

/// A scripted upstream that responds at once, except to `/1.0/endless`.
fn upstream() -> Scripted {
    Scripted::start(|request, wire| match request.target().split('?').next() {
        Some("/1.0/endless") => wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"),
        Some("/1.0/tunnel") => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wire.echo()
        }
        Some("/1.0/upload") => {
            wire.read_body();
            wire.answer("200 OK", "text/plain", b"x")
        }
        _ => wire.answer("200 OK", "text/plain", b"x"),
    })
}

/// Returns the only record whose line contains this text.
#[track_caller]
fn record(gateway: &Gateway, text: &str) -> Value {
    record_after(gateway, 0, text)
}

#[track_caller]
fn record_after(gateway: &Gateway, count: usize, text: &str) -> Value {
    let is_wanted = |line: &str| line.contains(text) && line.contains(ACCESS);
    let found = gateway.wait_for_line_after(count, is_wanted);
    assert!(found.is_some(), "no record holds {text}");
    let log = gateway.log();
    let lines: Vec<&String> = log.iter().skip(count).filter(|line| is_wanted(line)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    parse(lines[0])
}

#[track_caller]
fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn as_admin(scene: &ScriptedScene, path: &str) -> Curl {
    Curl::get(format!("{}{path}", scene.gateway.admin_url())).presenting(scene.ops())
}

#[test]
fn a_record_describes_the_request_and_the_response() {
    let scene = scene();
    let image = Images::new().random(Kind::Unified, "big", 1);
    image.import(&scene.incus, &["--public"]);
    scene.refresh();

    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let length = scene.get(&path).body.len();
    let entry = record(&scene.gateway, &path);
    assert_eq!(entry["port"], "public");
    assert_eq!(entry["method"], "GET");
    assert_eq!(entry["path"], *path);
    assert_eq!(entry["status"], 200);
    assert_eq!((&entry["received"], &entry["sent"]), (&0.into(), &length.into()));
    assert_eq!((&entry["http"], &entry["tls"]), (&"2".into(), &"1.3".into()));
    assert!(entry["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
    let [upstream, first_byte, duration] =
        ["upstream_us", "first_byte_us", "duration_us"].map(|field| entry[field].as_u64().unwrap());
    assert!(
        0 < upstream && upstream <= first_byte && first_byte <= duration,
        "{entry}"
    );
    for absent in ["admin", "aborted_by", "operation", "message"] {
        assert_eq!(entry[absent], Value::Null, "{entry}");
    }

    // A cached response needs no time of Incus.
    let url = format!("{}/1.0/images?recursion=2", scene.gateway.public_url());
    let answer = Curl::get(url).with(["--http1.1", "--tls-max", "1.2"]).answer();
    let entry = record(&scene.gateway, "recursion=2");
    assert_eq!(entry["sent"], answer.body.len());
    assert_eq!((&entry["http"], &entry["tls"]), (&"1.1".into(), &"1.2".into()));
    assert_eq!(entry["upstream_us"], Value::Null);

    let url = format!("{}/1.0/profiles?recursion=1", scene.gateway.admin_url());
    Curl::get(url).presenting(scene.ops()).answer();
    let entry = record(&scene.gateway, "/1.0/profiles");
    assert_eq!((&entry["port"], &entry["admin"]), (&"admin".into(), &"ops".into()));
}

#[test]
fn rejected_requests_have_a_record() {
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = JSON.to_owned());
    let (public, admin) = (scene.gateway.public_url(), scene.gateway.admin_url());
    let other = scene.certificates.client("other");
    for (curl, path, port, status) in [
        (
            Curl::get(format!("{public}/1.0/instances")),
            "/1.0/instances",
            "public",
            403,
        ),
        (
            Curl::get(format!("{public}/1.0")).method("PATCH"),
            "/1.0",
            "public",
            405,
        ),
        (Curl::get(format!("{admin}/1.0/nobody")), "/1.0/nobody", "admin", 403),
        // A second rejection of an address within a minute would be counted and have no line.
        (
            Curl::get(format!("{admin}/1.0/other"))
                .presenting(&other)
                .with(["--interface", "127.0.0.2"]),
            "/1.0/other",
            "admin",
            403,
        ),
    ] {
        let before = scene.gateway.log().len();
        assert_eq!(curl.answer().status, status);
        let entry = record_after(&scene.gateway, before, &format!("\"path\":\"{path}\""));
        assert_eq!((&entry["status"], &entry["port"]), (&status.into(), &port.into()));
        assert_eq!((&entry["admin"], &entry["upstream_us"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn imports_and_exec_sessions_have_a_record() {
    let scene = scene();
    let client = Client::admin(scene.ops());
    let url = scene.gateway.admin_url();
    client
        .run(&["remote", "add", "gate", &url, "--accept-certificate"])
        .ok();
    let image = Images::new().bootable("busybox");
    let size: u64 = image.files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let files: Vec<&str> = image.files.iter().map(|file| file.to_str().unwrap()).collect();
    client
        .run(&["image", "import", files[0], files[1], "gate:", "--alias", "busybox"])
        .ok();
    let entry = record(&scene.gateway, r#""method":"POST","path":"/1.0/images""#);
    assert_eq!(entry["status"], 202);
    assert!(entry["received"].as_u64().unwrap() > size, "{entry}");
    let operation = entry["operation"].as_str().unwrap();
    // The client waits for it.
    scene.gateway.wait_for_log(&format!("/1.0/operations/{operation}"));

    client.run(&["launch", "gate:busybox", "gate:one"]).ok();
    let script = "head -c 100000 /dev/zero";
    let stdout = client.run(&["exec", "gate:one", "--", "sh", "-c", script]).ok();
    assert_eq!(stdout.len(), 100_000);
    let entry = record(&scene.gateway, r#""method":"POST","path":"/1.0/instances/one/exec""#);
    let websocket = format!(
        r#""path":"/1.0/operations/{}/websocket?secret=***""#,
        entry["operation"].as_str().unwrap()
    );
    scene.gateway.wait_for_log(&websocket);
    // One of its websockets is stdout.
    let is_stdout = |line: &str| line.contains(&websocket) && parse(line)["sent"].as_u64() > Some(100_000);
    let stdout = parse(&scene.gateway.wait_for_line_after(0, is_stdout).unwrap());
    assert_eq!((&stdout["status"], &stdout["admin"]), (&101.into(), &"ops".into()));
    assert!(stdout["received"].as_u64().unwrap() > 0, "{stdout}");
}

#[test]
fn a_record_says_who_aborted_a_transfer() {
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = format!("{JSON}[limits]\ndrain_timeout = \"100ms\"\n");
    });
    let (ops, admin) = (TlsClient::of(scene.ops()), scene.gateway.admin());
    let begin = |path: &str| {
        let mut raw = ops.connect(admin).unwrap();
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        assert_eq!(raw.read_head().unwrap().status, 200);
        raw
    };
    let mut tunnel = ops.connect(admin).unwrap();
    assert_eq!(tunnel.upgrade("/1.0/tunnel").unwrap().status, 101);
    tunnel.send("ping").unwrap();
    assert_eq!(tunnel.read_exactly(4).unwrap(), b"ping");
    tunnel.finish().unwrap();
    assert_eq!(tunnel.end(), End::CloseNotify);
    let entry = record(&scene.gateway, "/1.0/tunnel");
    assert_eq!((&entry["received"], &entry["sent"]), (&4.into(), &4.into()));
    assert_eq!(entry["aborted_by"], Value::Null, "{entry}");

    let mut torn = begin("/1.0/endless?type=torn");
    torn.read_exactly(5).unwrap();
    upstream.cut();
    assert_eq!(torn.end(), End::Reset);
    let entry = record(&scene.gateway, "type=torn");
    let fields = (&entry["aborted_by"], &entry["sent"], &entry["status"]);
    assert_eq!(fields, (&"incus".into(), &5.into(), &200.into()));

    let before = scene.gateway.log().len();
    begin("/1.0/endless").reset();
    let entry = record_after(&scene.gateway, before, "/1.0/endless");
    assert_eq!((&entry["aborted_by"], &entry["sent"]), (&"client".into(), &5.into()));

    // A half upload.
    let mut raw = ops.connect(admin).unwrap();
    raw.send("POST /1.0/upload HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 10\r\n\r\nfirst")
        .unwrap();
    upstream.wait_for_requests(4);
    raw.reset();
    let entry = record(&scene.gateway, "/1.0/upload");
    assert_eq!(
        (&entry["aborted_by"], &entry["received"]),
        (&"client".into(), &5.into())
    );

    let dismissed = begin("/1.0/endless?force=1");
    let mut setup = scene.setup.clone();
    let (_, new) = &mut setup.admins[0];
    *new = scene.certificates.client("new");
    scene.gateway.reconfigure(&setup.text());
    scene.gateway.signal("HUP");
    let entry = record(&scene.gateway, "/1.0/endless?force=1");
    assert_eq!(
        (&entry["aborted_by"], &entry["admin"]),
        (&"revoked".into(), &"ops".into())
    );
    scene.gateway.wait_for_log(r#""message":"reloaded""#);
    drop(dismissed);
    let before = scene.gateway.log().len();
    scene.gateway.reconfigure(&scene.setup.text());
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log_after(before, r#""message":"reloaded""#);

    let before = scene.gateway.log().len();
    let drained = [begin("/1.0/endless")];
    scene.gateway.signal("TERM");
    assert_eq!(scene.gateway.exit_status().code(), Some(1));
    let entry = record_after(&scene.gateway, before, "/1.0/endless");
    assert_eq!((&entry["aborted_by"], &entry["sent"]), (&"drain".into(), &5.into()));
    // The last line of the log.
    scene.gateway.wait_for_log("connections that were still open");
    drop(drained);
}

#[test]
fn a_download_aborted_by_incus_has_a_record() {
    let scene = scene();
    let image = Images::new().random(Kind::Split, "big", 64);
    image.import(&scene.incus, &["--public"]);
    scene.refresh();
    let mut raw = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
        .unwrap();
    assert_eq!(raw.read_head().unwrap().status, 200);
    scene.incus.kill();
    raw.end();
    let entry = record(&scene.gateway, &path);
    assert_eq!(entry["aborted_by"], "incus");
    assert!(entry["sent"].as_u64().unwrap() < 64 << 20, "{entry}");
}

#[test]
fn records_contain_no_secret() {
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = JSON.to_owned());
    for (number, query) in [
        "secret=hush",
        "%73ecret=hush",
        "a=1&access_token=hush",
        "recursion=1;token=hush",
        "hush",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/1.0/secrets/{number}");
        as_admin(&scene, &format!("{path}?{query}")).answer();
        let entry = record(&scene.gateway, &path);
        assert!(entry["path"].as_str().unwrap().contains("***"), "{entry}");
        // The same for a stranger's request.
        let url = format!("{}{path}/public?{query}", scene.gateway.public_url());
        Curl::get(url).answer();
        record(&scene.gateway, &format!("{path}/public"));
    }
    let log = scene.gateway.log().join("\n");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn requests_cannot_forge_log_lines() {
    let line = "2026-01-01T00:00:00.000000Z  INFO incus_gate::access: port=admin";
    for more in ["", JSON] {
        let upstream = upstream();
        let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = more.to_owned());
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        let before = scene.gateway.log().len();
        let targets = [
            r#"/1.0/a"status=200"#.to_owned(),
            r#"/1.0/b\"status\":200"#.to_owned(),
            format!("/1.0/c%0A{}", line.replace(' ', "%20")),
            "/1.0/d\u{1b}[31m".to_owned(),
            "/1.0/e\n2026".to_owned(),
            "/1.0/f\u{85}\u{2028}\u{202e}".to_owned(),
            format!("/1.0/g{}", "x".repeat(50_000)),
        ];
        for target in &targets {
            // Some are rejected by the HTTP parser and have no record.
            let answer = raw.ask(format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n"));
            if answer.is_err() || answer.is_ok_and(|answer| answer.head.status == 400) {
                raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
            }
        }
        let method = "M".repeat(1_000);
        raw.ask(format!("{method} /1.0/last HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
            .unwrap();
        scene.gateway.wait_for_log("/1.0/last");
        let log = scene.gateway.log();
        let log: Vec<&String> = log.iter().skip(before).filter(|line| line.contains("/1.0/")).collect();
        assert!(log.len() >= 4, "{log:#?}");
        for line in &log {
            assert!(line.len() < 2_000, "{} bytes", line.len());
            assert!(line.is_ascii(), "{line:?}");
            assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
            assert!(line.contains(ACCESS) || line.contains("incus_gate::audit"), "{line}");
            match more {
                JSON => assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}"),
                _ => assert!(!line.contains(" status=200\""), "{line}"),
            }
        }
    }
}

#[test]
fn text_and_json_lines_have_the_same_content() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    as_admin(&scene, "/1.0/people?project=a").answer();
    let text = scene.gateway.wait_for_log("/1.0/people");
    for part in [
        "INFO incus_gate::access: port=admin client=127.0.0.1:",
        r#" admin=ops method=GET path="/1.0/people?project=a" status=200 received=0 sent=1 duration_us="#,
        " http=2 tls=1.3",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let before = scene.gateway.log().len();
    scene.gateway.reconfigure(&(scene.setup.text() + JSON));
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log_after(before, r#""message":"reloaded""#);
    as_admin(&scene, "/1.0/machines").answer();
    let entry = record_after(&scene.gateway, before, "/1.0/machines");
    assert_eq!((&entry["level"], &entry["sent"]), (&"INFO".into(), &1.into()));
    assert!(entry["timestamp"].as_str().unwrap().ends_with('Z'), "{entry}");
    for line in scene.gateway.log().iter().skip(before) {
        assert!(
            serde_json::from_str::<Value>(line).unwrap()["target"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_reload_changes_the_log_level() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    let with_level = |level: &str| {
        let before = scene.gateway.log().len();
        scene
            .gateway
            .reconfigure(&format!("{}[log]\nlevel = \"{level}\"\n", scene.setup.text()));
        scene.gateway.signal("HUP");
        scene.gateway.wait_for_log_after(before, " reloaded");
    };
    with_level("info,incus_gate::access=warn");
    as_admin(&scene, "/1.0/silent").answer();
    with_level("info,incus_gate=debug");
    as_admin(&scene, "/1.0/loud").answer();
    scene.gateway.wait_for_log("/1.0/loud");
    let log = scene.gateway.log().join("\n");
    assert!(!log.contains("/1.0/silent"), "{log}");
}

#[test]
fn a_blocked_log_reader_delays_no_request() {
    let upstream = upstream();
    let certificates = Certificates::new();
    let mut setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
    let (public, admin) = (free_address(), free_address());
    (setup.public, setup.admin) = (public.to_string(), admin.to_string());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    fs::write(&path, setup.text()).unwrap();
    let mut gateway = Started::by(
        Command::new(binary())
            .args(["run", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    );
    let mut log = BufReader::new(gateway.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" ready\n") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
    }
    // More than the pipe and the gateway buffer together.
    let path = format!("/1.0/{}", "x".repeat(1_000));
    let mut raw = TlsClient::tls13().connect(public).unwrap();
    for _ in 0..6_000 {
        assert_eq!(raw.get(&path).unwrap().head.status, 403);
    }
    // Lines of the audit log are still written.
    let mut ops = TlsClient::of(&setup.admins[0].1).connect(admin).unwrap();
    let drowned = format!("/1.0/drowned{}", "x".repeat(1_000));
    assert_eq!(ops.get(&drowned).unwrap().head.status, 200);
    let target = format!("/1.0/long{}", "x".repeat(1_000));
    let post = format!("POST {target} HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(ops.ask(post).unwrap().head.status, 200);
    let mut all = String::new();
    while !line.contains("lines of the log were lost") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
        all.push_str(&line);
    }
    assert!(line.contains("ERROR"), "{line}");
    assert!(all.contains("incus_gate::audit: request admin=ops") && all.contains("/1.0/long"));
    assert!(!all.contains("/1.0/drowned"));
    // Lines are written again.
    assert_eq!(raw.get("/1.0/last").unwrap().head.status, 403);
    signal(gateway.id(), "TERM");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("/1.0/last") && rest.contains("drained"), "{rest}");
    assert!(gateway.wait().unwrap().success());
}

#[test]
fn a_network_of_strangers_has_sixty_lines_a_minute() {
    const REQUESTS: usize = 150;
    const LINES: usize = 60;
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more_public = "proxy_protocol_from = [\"127.0.0.1\"]".to_owned();
        setup.more = format!("[limits]\nrequests_per_second = 1000\n\n{JSON}");
    });
    let public = scene.gateway.public();
    // The first has two addresses of one network.
    for addresses in [["2001:db8::1", "2001:db8::2"], ["192.0.2.1", "192.0.2.1"]] {
        for address in addresses {
            let client = address.parse().unwrap();
            let mut raw = TlsClient::tls13().connect_announced(client, public).unwrap();
            for _ in 0..REQUESTS / 2 {
                assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
            }
        }
    }
    scene.gateway.signal("TERM");
    assert!(scene.gateway.exit_status().success());

    let log = scene.gateway.log();
    let lines: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let access: Vec<_> = lines.iter().filter(|line| line["target"] == ACCESS).collect();
    for (network, prefix) in [("2001:db8::/64", "[2001:db8::"), ("192.0.2.1", "192.0.2.1:")] {
        let is_of = |line: &&&Value| line["client"].as_str().is_some_and(|client| client.starts_with(prefix));
        let requests = access.iter().filter(is_of).count();
        let counts = access.iter().filter(|line| line["network"] == network);
        let counted: u64 = counts.map(|line| line["times"].as_u64().unwrap()).sum();
        assert_eq!(requests + counted as usize, REQUESTS, "{network}: {access:#?}");
        // A second minute may have begun.
        assert!((LINES..=2 * LINES).contains(&requests), "{network}: {requests} lines");
    }
}
