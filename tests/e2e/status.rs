//! The running gateway reports its state, and what strangers see, only to root and its own user on this machine.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use testing::client::Curl;
use testing::gateway::{Gateway, PATIENCE, binary};
use testing::images::Images;
use testing::run::{Output, run};
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Scripted;
use testing::tls::TlsClient;

const DOCS: &str = include_str!("../../docs/OPERATING.md");

fn status(gateway: &Gateway) -> Output {
    run(&mut gateway.command("status"))
}

/// Returns the report and the exit code.
fn report(gateway: &Gateway) -> (Value, Option<i32>) {
    let output = run(gateway.command("status").arg("--json"));
    let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    (report, output.status.code())
}

#[track_caller]
fn wait_for(gateway: &Gateway, pointer: &str, wanted: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (report, _) = report(gateway);
        if report.pointer(pointer) == Some(wanted) {
            return report;
        }
        assert!(Instant::now() < deadline, "{pointer} is not {wanted} in {report:#}");
    }
}

#[track_caller]
fn ask_as_admin(scene: &Scene) {
    let url = format!("{}/1.0", scene.gateway.admin_url());
    assert_eq!(Curl::get(url).presenting(scene.ops()).answer().status, 200);
}

#[test]
fn the_text_summarises_the_state_of_the_gateway() {
    let scene = Scene::start_with(|setup| {
        setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n[store]\ndirectory = \"store\"\n".to_owned();
    });
    Images::new()
        .split("published")
        .import(&scene.incus, &["--alias", "one", "--public"]);
    scene.refresh();
    let gateway = &scene.gateway;
    // A rejected certificate.
    let nobody = scene.certificates.client("nobody");
    let url = format!("{}/1.0", gateway.admin_url());
    assert_eq!(Curl::get(url).presenting(&nobody).answer().status, 403);
    ask_as_admin(&scene);

    let text = status(gateway).ok();
    let public = gateway.public_port();
    let admin = gateway.admin_port();
    let version = env!("CARGO_PKG_VERSION");
    let lines = [
        "  ready".to_owned(),
        format!(
            r"  incus-gate {version}, process {}, started \d+ seconds? ago, at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC",
            gateway.pid()
        ),
        format!(
            r"  {}, loaded \d+ seconds? ago, at .* UTC",
            gateway.configuration().display()
        ),
        format!(
            r"  Incus \d+\.\d+\S* at {} is available, and trusts the gateway",
            scene.incus.url()
        ),
        r"  images on the public port: 1, as of \d+ seconds? ago".to_owned(),
        format!(
            "  store in {}: 0 images, 0 B of 20.0 GiB, 0 hits, 0 misses",
            gateway.configuration().with_file_name("store").display()
        ),
        String::new(),
        "Ports".to_owned(),
        r" +CONNECTIONS  REQUESTS  5XX  ABORTED +RECEIVED +SENT  ADDRESS".to_owned(),
        format!(r"  admin +\d of 4096 +2 +0 +0 +0 B +\d\S* K?i?B  127.0.0.1:{admin}"),
        format!(r"  public +\d of 4032 +1 +0 +0 +0 B +\d+ B  127.0.0.1:{public}"),
        format!(" +metrics +{}", gateway.metrics_url().trim_start_matches("http://")),
        String::new(),
        "Rejected: 1 unknown_certificate".to_owned(),
        String::new(),
        "Certificates".to_owned(),
        r"  public.tls +\d+ days left".to_owned(),
        r"  admin.tls +\d+ days left".to_owned(),
        r"  upstream.client_certificate +\d+ days left".to_owned(),
        r"  admin.clients ops +\d+ days left".to_owned(),
        r"  upstream.server_certificate +\d+ days left".to_owned(),
        String::new(),
        "Administrators".to_owned(),
        r"  ops  seen \d+ seconds? ago, from 127\.0\.0\.1".to_owned(),
    ];
    assert_eq!(text.lines().count(), lines.len(), "{text}");
    for (line, wanted) in text.lines().zip(lines) {
        assert!(
            Regex::new(&format!("^{wanted}$")).unwrap().is_match(line),
            "{wanted}\n{line}\n{text}"
        );
    }
}

#[test]
fn the_json_has_exactly_the_documented_fields() {
    let scene = Scene::start_with(|setup| {
        "simplestreams = true".clone_into(&mut setup.more_public);
        "[store]\ndirectory = \"store\"\nsize = \"1GiB\"".clone_into(&mut setup.more);
    });
    let images = Images::new();
    let published = images.split("published");
    published.import(&scene.incus, &["--public"]);
    // What cannot be listed as simplestreams: an alias, and an image whose file Incus has lost.
    let alias = json!({"name": "a,b", "target": published.fingerprint}).to_string();
    scene
        .incus
        .run(&["query", "-X", "POST", "-d", &alias, "/1.0/images/aliases"])
        .ok();
    let lost = images.unified("lost");
    lost.import(&scene.incus, &[]);
    fs::remove_file(scene.incus.variable().join("images").join(&lost.fingerprint)).unwrap();
    let publish = ["query", "-X", "PATCH", "-d", r#"{"public": true}"#];
    scene
        .incus
        .run(&[&publish[..], &[&format!("/1.0/images/{}", lost.fingerprint)]].concat())
        .ok();
    scene.refresh();
    ask_as_admin(&scene);
    let deadline = Instant::now() + PATIENCE;
    let (report, code) = loop {
        let (report, code) = report(&scene.gateway);
        let simplestreams = &report["simplestreams"];
        if !simplestreams["omitted"][0].is_null() && !simplestreams["pending"][0]["problem"].is_null() {
            break (report, code);
        }
        assert!(Instant::now() < deadline, "{report:#}");
    };
    assert_eq!(code, Some(0));

    let section = DOCS.split("\n## ").find(|section| section.starts_with("Status\n"));
    let row = Regex::new(r"(?m)^\| `([a-z_.\[\]*]+)` \|").unwrap();
    let written: BTreeSet<_> = row
        .captures_iter(section.expect("a section `Status`"))
        .map(|found| found[1].to_owned())
        .collect();
    let mut real = BTreeSet::new();
    names(&report, "", &mut real);
    assert_eq!(written, real);

    assert_eq!(report["state"], "ready");
    assert_eq!(report["problem"], Value::Null);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["incus"]["url"], scene.incus.url());
    assert_eq!(report["incus"]["trusts"], true);
    assert_eq!(report["images"]["count"], 2);
    assert_eq!(report["store"]["limit_bytes"], 1_u64 << 30);
    assert_eq!(report["store"]["problem"], Value::Null);
    assert_eq!(report["ports"]["public"]["requests"], 1);
    assert_eq!(
        report["ports"]["public"]["addresses"][0],
        scene.gateway.public().to_string()
    );
    assert_eq!(report["admins"][0]["last_seen_from"], "127.0.0.1");
}

/// Collects the names of all leaves: `ports.*.sent_bytes`, `admins[].name`.
fn names(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        // The keys of these objects are names of ports and reasons.
        Value::Object(fields) if ["ports", "rejected", "store.dropped"].contains(&path) => {
            for value in fields.values() {
                names(value, &format!("{path}.*"), found);
            }
            found.extend((path != "ports").then(|| format!("{path}.*")));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                names(value, &path, found);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for value in values {
                names(value, &format!("{path}[]"), found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn last_seen_of_admins_survives_a_reload() {
    let scene = Scene::start();
    let gateway = &scene.gateway;
    assert_eq!(report(gateway).0["admins"][0]["last_seen_at"], Value::Null);
    let text = status(gateway).ok();
    assert!(text.contains("  ops  not seen since the start\n"), "{text}");

    ask_as_admin(&scene);
    let seen = report(gateway).0["admins"][0].clone();
    assert_eq!(seen["last_seen_from"], "127.0.0.1");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(now.as_secs() - seen["last_seen_at"].as_u64().unwrap() < 20, "{seen}");

    let mut setup = scene.setup.clone();
    let other = scene.certificates.expired("late");
    setup.admins.insert(0, ("late".to_owned(), other));
    gateway.reconfigure(&setup.text());
    gateway.signal("HUP");
    gateway.wait_for_log("reloaded");
    let (report, _) = report(gateway);
    assert_eq!(report["admins"][1], seen);
    assert_eq!(report["admins"][0]["last_seen_at"], Value::Null);
    let text = status(gateway).ok();
    assert!(
        Regex::new(r"(?m)^! admin.clients late +expired: renew it$")
            .unwrap()
            .is_match(&text),
        "{text}"
    );
}

#[test]
fn a_rejected_reload_is_reported_until_one_succeeds() {
    let scene = Scene::start();
    let gateway = &scene.gateway;
    let text = scene.setup.text();
    gateway.reconfigure(&text.replacen("[public]", "[public]\nimagse = \"all\"", 1));
    gateway.signal("HUP");
    gateway.wait_for_log("reload failed");
    // The gateway is found although the rest of the file is invalid.
    let shown = status(gateway).ok();
    let line = shown.lines().find(|line| line.starts_with("! reload failed "));
    assert!(
        line.is_some_and(|line| line.contains("unknown key `imagse`")),
        "{shown}"
    );

    gateway.reconfigure(&text);
    gateway.signal("HUP");
    let after = wait_for(gateway, "/configuration/reload_error", &Value::Null);
    assert_eq!(after["configuration"]["reload_failed_at"], Value::Null);
}

#[test]
fn images_lists_what_strangers_can_list() {
    let scene = Scene::start();
    let images = Images::new();
    images
        .split("published \u{1b}[31m\u{202e} image")
        .import(&scene.incus, &["--alias", "one", "--alias", "other/name", "--public"]);
    let second = images.unified("second");
    second.import(&scene.incus, &["--public"]);
    images.split("private").import(&scene.incus, &["--alias", "hidden"]);
    scene.refresh();

    let shown = run(scene.gateway.command("images").arg("--json")).ok();
    let by_fingerprint = |text: &str| {
        let mut list: Vec<Value> = serde_json::from_str(text).unwrap();
        list.sort_by_key(|image| image["fingerprint"].to_string());
        list
    };
    let listed = scene
        .stranger()
        .run(&["image", "list", "gate:", "--format", "json"])
        .ok();
    let fields = [
        "aliases",
        "architecture",
        "fingerprint",
        "properties",
        "size",
        "type",
        "uploaded_at",
    ];
    let shown = by_fingerprint(&shown);
    let listed = by_fingerprint(&listed);
    assert_eq!((shown.len(), listed.len()), (2, 2));
    for (shown, listed) in shown.iter().zip(&listed) {
        for field in fields {
            assert_eq!(shown[field], listed[field], "{field}");
        }
    }

    let table = run(&mut scene.gateway.command("images")).ok();
    assert!(table.starts_with("NAME"), "{table}");
    assert!(
        !table.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{table:?}"
    );
    assert!(!table.contains("hidden"), "{table}");
    for wanted in [
        r"(?m)^one +[0-9a-f]{12}  container  x86_64 +\d.* 20\d\d-\d\d-\d\d  published \[31m image$",
        r"(?m)^other/name$",
    ] {
        assert!(Regex::new(wanted).unwrap().is_match(&table), "{wanted}\n{table}");
    }
    assert!(table.contains(&second.fingerprint[..12]), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

#[test]
fn only_root_and_the_gateways_user_may_connect() {
    let scene = Scene::start();
    let gateway = &scene.gateway;
    let socket = gateway.status_socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Make everything but the socket accessible to all users, including the binary, which is in a folder of root.
    let open = tempfile::tempdir().unwrap();
    let copy = open.path().join("incus-gate");
    fs::copy(binary(), &copy).unwrap();
    for path in [open.path(), &copy, socket.parent().unwrap(), &gateway.configuration()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let as_nobody = || {
        run(Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(["status", "--config"])
            .arg(gateway.configuration()))
    };
    let complaint = as_nobody().fails();
    assert!(
        complaint.contains("Permission denied") && complaint.contains("run this as root"),
        "{complaint}"
    );

    // The gateway checks the peer's user itself, whatever the mode of the socket.
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let refused = as_nobody();
    assert_eq!(
        (refused.status.code(), refused.stdout.as_str()),
        (Some(1), ""),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("only root and the gateway's own user"),
        "{refused}"
    );
    gateway.wait_for_log("rejected a client of another user uid=65534");
    status(gateway).ok();
}

#[test]
fn the_metrics_port_does_not_serve_the_status() {
    let scene = Scene::start_with(|setup| setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned());
    for path in ["/status", "/images"] {
        let answer = Curl::get(format!("{}{path}", scene.gateway.metrics_url())).answer();
        assert_eq!(answer.status, 404);
        assert!(!answer.text().contains("status"), "{}", answer.text());
        assert_eq!(scene.get(path).status, 403);
    }
    let socket = scene.gateway.status_socket();
    let figures = Curl::get("http://localhost/metrics").with(["--unix-socket".as_ref(), socket.as_os_str()]);
    assert!(figures.answer().text().contains("incus_gate_build_info"));
    let post = Curl::get("http://localhost/status").method("POST");
    assert_eq!(
        post.with(["--unix-socket".as_ref(), socket.as_os_str()])
            .answer()
            .status,
        405
    );
}

#[test]
fn the_socket_of_an_exited_gateway_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    // In a folder that does not exist yet.
    let socket = folder.path().join("run/status.sock");
    let scene = Scene::start_with(|setup| setup.status = socket.display().to_string());
    scene.gateway.signal("KILL");
    scene.gateway.exit_status();
    let complaint = status(&scene.gateway).fails();
    assert!(
        complaint.contains("no gateway responds at") && complaint.contains("systemctl start incus-gate"),
        "{complaint}"
    );

    let next = Gateway::start(&scene.setup.text());
    assert_eq!(report(&next).0["pid"], next.pid());
    let left: Vec<_> = fs::read_dir(socket.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(left, ["status.sock"]);
    assert_eq!(
        fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o750
    );
}

#[test]
fn only_a_draining_gateway_gives_up_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock");
    let upstream = Scripted::start(|_, wire| wire.hold_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.status = socket.display().to_string());
    let first = &scene.gateway;

    let second = Gateway::start(&scene.setup.text());
    let warning = second.wait_for_log("status.socket: cannot listen on");
    assert!(
        warning.contains("another gateway uses this socket; set another status.socket for this one"),
        "{warning}"
    );
    assert_eq!(report(&second).0["pid"], first.pid());

    let mut admin = TlsClient::of(scene.ops()).connect(first.admin()).unwrap();
    admin
        .send("GET /1.0/events HTTP/1.1\r\nHost: gate.test\r\n\r\n")
        .unwrap();
    assert_eq!(admin.read_exactly(12).unwrap(), b"HTTP/1.1 200");
    first.signal("TERM");
    wait_for(first, "/state", &json!("draining"));
    let draining = status(first);
    assert_eq!(draining.status.code(), Some(1));
    assert!(draining.stdout.starts_with("! draining\n"), "{draining}");
    assert_eq!(draining.stderr, "incus-gate: the gateway is not ready: draining\n");

    let third = Gateway::start(&scene.setup.text());
    assert_eq!(report(&third).0["pid"], third.pid());
    drop(admin);
}

#[test]
fn an_unavailable_incus_is_reported() {
    let scene = Scene::start();
    scene.refresh();
    scene.incus.stop();
    let away = wait_for(&scene.gateway, "/state", &json!("not-ready"));
    assert_eq!(away["incus"]["available"], false);
    let shown = status(&scene.gateway);
    assert_eq!(shown.status.code(), Some(1));
    assert!(
        shown.stdout.starts_with("! not ready: cannot connect to Incus at "),
        "{shown}"
    );
    assert!(shown.stdout.contains("\n! Incus at "), "{shown}");
    assert!(
        shown
            .stderr
            .starts_with("incus-gate: the gateway is not ready: cannot connect"),
        "{shown}"
    );
    scene.incus.start_again();
    wait_for(&scene.gateway, "/state", &json!("ready"));
}

#[test]
fn a_blocked_socket_path_is_logged_and_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let mut scene = ScriptedScene::before_with(&upstream, |setup| setup.status = file.display().to_string());
    scene
        .gateway
        .wait_for_log("the path exists and is not a socket; remove it");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    scene.setup.status = folder.path().join("no/such/folder/socket").display().to_string();
    let gateway = Gateway::start(&scene.setup.text());
    gateway.wait_for_log("give the gateway's user write permission in its folder");

    scene.setup.status = String::new();
    let gateway = Gateway::start(&scene.setup.text());
    assert!(gateway.log().iter().all(|line| !line.contains("status")));
    let off = status(&gateway);
    assert_eq!(off.status.code(), Some(1));
    assert!(off.stderr.contains("status.socket is disabled"), "{off}");

    // A listener that sends nothing, or invalid data.
    assert_silent_listener_is_reported(folder.path(), &scene);
}

fn assert_silent_listener_is_reported(folder: &Path, scene: &ScriptedScene) {
    let socket = folder.join("silent");
    let silent = UnixListener::bind(&socket).unwrap();
    let mut setup = scene.setup.clone();
    setup.status = socket.display().to_string();
    let begun = Instant::now();
    let gateway = Gateway::start(&setup.text());
    gateway.wait_for_log("another gateway uses this socket");
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(silent);
}

#[test]
fn changing_the_socket_needs_a_restart_and_long_paths_fail() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let mut scene = ScriptedScene::before(&upstream);
    scene.setup.status = "other.sock".to_owned();
    scene.gateway.reconfigure(&scene.setup.text());
    scene.gateway.signal("HUP");
    scene
        .gateway
        .wait_for_log("status.socket has changed; restart the gateway to apply it");

    scene.setup.status = "x".repeat(108);
    let ended = Gateway::try_start(&scene.setup.text()).unwrap_err();
    assert_eq!(ended.status.code(), Some(78));
    let message = ended.log.join("\n");
    assert!(
        message.contains("status.socket: ") && message.contains("less than 108 bytes"),
        "{message}"
    );
}
