//! The audit log contains every change by an administrator, every tunnel and every rejected client. It is separate from the
//! other logs and survives any change to its file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testing::client::{Client, Curl};
use testing::disk::Disk;
use testing::gateway::{Gateway, PATIENCE, toml};
use testing::images::Images;
use testing::run::run;
use testing::scene::{Scene, ScriptedScene};
use testing::scripted::Scripted;
use testing::tls::TlsClient;

/// A folder for the audit log, and its configuration.
struct Audit {
    folder: TempDir,
}

impl Audit {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    fn table(&self) -> String {
        format!("[log]\nformat = \"json\"\naudit_file = {}\n", toml(&self.path()))
    }

    /// Waits for a line that contains this text, and returns all lines.
    #[track_caller]
    fn wait_for(&self, text: &str) -> Vec<Value> {
        wait_for(&self.path(), text)
    }
}

#[track_caller]
fn wait_for(path: &Path, text: &str) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = fs::read_to_string(path).unwrap_or_default();
        if log.contains(text) && log.ends_with('\n') {
            return log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(Instant::now() < deadline, "no line holds {text}: {log}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn upstream() -> Scripted {
    Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"))
}

fn scene(upstream: &Scripted, audit: &Audit) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| setup.more = audit.table())
}

fn change(scene: &ScriptedScene, path: &str) {
    let url = format!("{}{path}", scene.gateway.admin_url());
    let answer = Curl::get(url).method("PUT").presenting(scene.ops()).answer();
    assert_eq!(answer.status, 200);
}

#[test]
fn changes_and_tunnels_are_audited_and_reads_are_not() {
    let audit = Audit::new();
    let scene = Scene::start_with(|setup| setup.more = audit.table());
    assert_eq!(fs::metadata(audit.path()).unwrap().permissions().mode() & 0o137, 0);
    let client = Client::admin(scene.ops());
    let url = scene.gateway.admin_url();
    client
        .run(&["remote", "add", "gate", &url, "--accept-certificate"])
        .ok();
    let image = Images::new().bootable("busybox");
    let files: Vec<&str> = image.files.iter().map(|file| file.to_str().unwrap()).collect();
    client
        .run(&["image", "import", files[0], files[1], "gate:", "--alias", "busybox"])
        .ok();
    client.run(&["image", "list", "gate:"]).ok();
    client.run(&["launch", "gate:busybox", "gate:one"]).ok();
    // A shell has a record while it is open.
    let mut shell = client.command();
    let mut shell = shell
        .args(["exec", "gate:one", "--", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let entries = audit.wait_for("websocket?secret=***");
    assert!(shell.try_wait().unwrap().is_none());
    drop(shell.stdin.take());
    shell.wait().unwrap();

    let find = |message: &str, path: &str| {
        let is_it = |entry: &&Value| entry["message"] == message && entry["path"].as_str().unwrap().starts_with(path);
        entries
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{message} {path}: {entries:#?}"))
            .clone()
    };
    for (message, method, path, status) in [
        ("request", "POST", "/1.0/images", 202),
        ("request", "POST", "/1.0/instances", 202),
        ("request", "POST", "/1.0/instances/one/exec", 202),
        ("tunnel", "GET", "/1.0/operations/", 101),
        ("tunnel", "GET", "/1.0/events", 101),
    ] {
        let entry = find(message, path);
        assert_eq!(
            (&entry["method"], &entry["admin"]),
            (&method.into(), &"ops".into()),
            "{entry}"
        );
        assert_eq!(entry["status"], status, "{entry}");
        assert!(entry["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");
        assert_eq!(entry["operation"].is_string(), status == 202, "{entry}");
    }
    assert!(entries.iter().all(|entry| entry["target"] == "incus_gate::audit"));
    let is_read = |entry: &&Value| entry["method"] == "GET" && entry["message"] == "request";
    assert_eq!(entries.iter().find(is_read), None);
    let log = scene.gateway.log();
    assert!(!log.iter().any(|line| line.contains("incus_gate::audit")), "{log:#?}");
}

#[test]
fn rejected_certificates_are_audited() {
    let upstream = upstream();
    let audit = Audit::new();
    let scene = scene(&upstream, &audit);
    let other = scene.certificates.client("other");
    let url = format!("{}/1.0", scene.gateway.admin_url());
    assert_eq!(Curl::get(&url).answer().status, 403);
    assert_eq!(Curl::get(&url).presenting(&other).answer().status, 403);
    let entries = audit.wait_for("rejected: ");
    assert_eq!(entries.len(), 1, "who shows nothing is nobody: {entries:#?}");
    assert_eq!(entries[0]["fingerprint"], other.fingerprint());
    assert_eq!(entries[0]["subject"], "CN=other");
    let message = entries[0]["message"].as_str().unwrap();
    assert!(message.contains("admin.clients does not list this"), "{message}");
}

#[test]
fn the_audited_target_is_the_one_that_incus_decodes() {
    let upstream = upstream();
    let audit = Audit::new();
    let scene = scene(&upstream, &audit);
    let filler = "a=b&".repeat(120) + &"path=x&".repeat(400);
    for (method, target, expected) in [
        (
            "POST",
            "/1.0/projects?%70roject=default",
            "/1.0/projects?project=default",
        ),
        (
            "PUT",
            "/1.0/x?recursion=1&targe%74=%6fne",
            "/1.0/x?target=one&recursion=1",
        ),
        (
            "PUT",
            &format!("/1.0/y?{filler}project=prod"),
            "/1.0/y?project=prod&path=x&a=***",
        ),
        ("OPTIONS", "/1.0/options", "/1.0/options"),
        ("PROPFIND", "/1.0/unknown", "/1.0/unknown"),
    ] {
        let url = format!("{}{target}", scene.gateway.admin_url());
        let answer = Curl::get(url).method(method).presenting(scene.ops()).answer();
        assert_eq!(answer.status, 200);
        let lines = audit.wait_for(expected);
        let last = lines.last().unwrap();
        assert!(last["path"].as_str().unwrap().starts_with(expected), "{last}");
        assert_eq!(last["method"], method);
    }
}

#[test]
fn control_characters_in_a_subject_are_escaped() {
    let upstream = upstream();
    let audit = Audit::new();
    let name = "\u{7f}\u{85}\u{9b}31m\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{1b}[2J\nä";
    for is_json in [true, false] {
        let scene = ScriptedScene::before_with(&upstream, |setup| {
            setup.more = audit.table();
            if !is_json {
                setup.more = setup.more.replace("json", "text");
            }
        });
        let other = scene.certificates.client(name);
        let mut raw = TlsClient::of(&other).connect(scene.gateway.admin()).unwrap();
        assert_eq!(raw.get("/1.0").unwrap().head.status, 403);
        scene.gateway.signal("TERM");
        assert!(scene.gateway.exit_status().success());
        let log = fs::read_to_string(audit.path()).unwrap();
        let line = log.lines().last().unwrap();
        assert_eq!(log.lines().count(), if is_json { 1 } else { 2 }, "{log:?}");
        assert!(line.chars().all(|c| c == 'ä' || (' '..='~').contains(&c)), "{line:?}");
        if is_json {
            let entry: Value = serde_json::from_str(line).unwrap();
            assert_eq!(entry["subject"], format!("CN={name}"));
        }
    }
}

#[test]
fn repeated_rejections_are_counted_in_one_line() {
    let upstream = upstream();
    let audit = Audit::new();
    let scene = scene(&upstream, &audit);
    let other = scene.certificates.client("other");
    let other = TlsClient::of(&other);
    const TIMES: u64 = 200;
    for _ in 0..TIMES {
        let mut raw = other.connect(scene.gateway.admin()).unwrap();
        assert_eq!(raw.get("/1.0").unwrap().head.status, 403);
    }
    scene.gateway.signal("TERM");
    assert!(scene.gateway.exit_status().success());
    let entries = audit.wait_for("rejected more often than logged");
    // One line and one count; two of each if a minute ended in between.
    let (numbers, each): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry["times"].is_u64());
    assert!(each.len() <= 2 && numbers.len() <= 2, "{entries:#?}");
    assert!(
        numbers.iter().all(|entry| entry["network"] == "127.0.0.1"),
        "{numbers:#?}"
    );
    let others: u64 = numbers.iter().filter_map(|entry| entry["times"].as_u64()).sum();
    assert_eq!(each.len() as u64 + others, TIMES);
    // The access log has no more lines than that.
    let log = scene.gateway.log();
    let lines: Vec<_> = log.iter().filter(|line| line.contains("incus_gate::access")).collect();
    let counted = |line: &&&String| line.contains("rejected more often than logged") && line.contains("127.0.0.1");
    let counts = lines.iter().filter(counted).count();
    assert!((1..=2).contains(&counts) && lines.len() <= 2 * counts, "{lines:#?}");
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    assert!(bytes < 2_000, "{bytes} bytes of log");
}

#[test]
fn without_a_file_the_main_log_has_the_audit_at_any_level() {
    let upstream = upstream();
    for level in ["error", "error,incus_gate::audit=off"] {
        let scene = ScriptedScene::before(&upstream);
        let table = format!("[log]\nlevel = \"{level}\"\n");
        let before = scene.gateway.log().len();
        scene.gateway.reconfigure(&(scene.setup.text() + &table));
        scene.gateway.signal("HUP");
        let deadline = Instant::now() + PATIENCE;
        let line = loop {
            change(&scene, "/1.0/changed");
            scene.gateway.wait_for_log_after(before, "incus_gate::audit: request");
            let log = scene.gateway.log();
            // Until the new level is applied, the access log has lines too.
            let last = log.last().unwrap().clone();
            if last.contains("incus_gate::audit") {
                break last;
            }
            assert!(Instant::now() < deadline, "{log:#?}");
        };
        assert!(line.contains(r#"request admin=ops client=127.0.0.1:"#), "{line}");
        assert!(line.ends_with(r#"method=PUT path="/1.0/changed" status=200"#), "{line}");
    }
}

#[test]
fn logrotate_loses_no_line() {
    let upstream = upstream();
    let audit = Audit::new();
    let scene = scene(&upstream, &audit);
    let rotated = audit.folder.path().join("audit.log.1");
    change(&scene, "/1.0/before");
    audit.wait_for("/1.0/before");
    fs::rename(audit.path(), &rotated).unwrap();
    change(&scene, "/1.0/between");
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    change(&scene, "/1.0/after");
    assert_eq!(audit.wait_for("/1.0/after").len(), 1);
    assert_eq!(wait_for(&rotated, "/1.0/between").len(), 2);

    // Without a SIGHUP, a deleted file is created again.
    fs::remove_file(audit.path()).unwrap();
    change(&scene, "/1.0/deleted");
    assert_eq!(audit.wait_for("/1.0/deleted").len(), 1);
}

#[test]
fn a_full_disk_is_logged_once_and_delays_no_request() {
    let upstream = upstream();
    let disk = Disk::mount();
    let audit = Audit {
        folder: tempfile::tempdir_in(disk.path()).unwrap(),
    };
    let scene = scene(&upstream, &audit);
    disk.fill();
    for _ in 0..2 {
        let before = scene.gateway.log().len();
        change(&scene, "/1.0/full");
        // Lines that cannot be written to the file are in the main log.
        scene.gateway.wait_for_log_after(before, r#""message":"request""#);
    }
    disk.make_room();
    change(&scene, "/1.0/room");
    audit.wait_for("/1.0/room");
    scene.gateway.wait_for_log("writing the audit log to");
    let log = scene.gateway.log();
    let warnings = log
        .iter()
        .filter(|line| line.contains("cannot write the audit log"))
        .count();
    assert_eq!(warnings, 1, "{log:#?}");
}

#[test]
fn a_file_that_is_not_writable_is_rejected() {
    let upstream = upstream();
    let audit = Audit::new();
    let scene = scene(&upstream, &audit);
    let here = audit.folder.path();
    symlink("/dev/null", here.join("null")).unwrap();
    run(Command::new("mkfifo").arg(here.join("pipe"))).ok();
    for (name, why) in [
        ("none/audit.log", "No such file or directory"),
        (".", "not a regular file"),
        ("null", "not a regular file"),
        ("pipe", "not a regular file"),
    ] {
        let mut setup = scene.setup.clone();
        setup.more = format!("[log]\naudit_file = {}\n", toml(&here.join(name)));
        let ended = Gateway::try_start(&setup.text()).unwrap_err();
        assert_eq!(ended.status.code(), Some(78));
        let message = ended.log.join("\n");
        assert!(
            message.contains("log.audit_file: cannot write") && message.contains(why),
            "{message}"
        );

        let before = scene.gateway.log().len();
        scene.gateway.reconfigure(&setup.text());
        scene.gateway.signal("HUP");
        let line = scene.gateway.wait_for_log_after(before, "reload failed");
        assert!(
            line.contains("log.audit_file: cannot write") && line.contains(why),
            "{line}"
        );
    }
    // The previous configuration is still active.
    change(&scene, "/1.0/still");
    audit.wait_for("/1.0/still");

    // The sandbox permits no new folder.
    let elsewhere = Audit::new();
    let mut setup = scene.setup.clone();
    setup.more = elsewhere.table();
    let before = scene.gateway.log().len();
    scene.gateway.reconfigure(&setup.text());
    scene.gateway.signal("HUP");
    let line = scene.gateway.wait_for_log_after(before, "reload failed");
    assert!(
        line.contains("Permission denied") && line.contains("needs a restart"),
        "{line}"
    );
}
