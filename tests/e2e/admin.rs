//! An administrator with the real client can use the full Incus API.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testing::client::{Client, Curl};
use testing::images::{Images, Kind, sha256_of};
use testing::scene::Scene;
use testing::tls::{PATIENCE, TlsClient};

const MIB: u64 = 1 << 20;

/// Returns the real client of the admin `ops`, with the gateway as its remote `gate:`.
fn ops(scene: &Scene) -> Client {
    let client = Client::admin(scene.ops());
    client
        .run(&[
            "remote",
            "add",
            "gate",
            &scene.gateway.admin_url(),
            "--accept-certificate",
        ])
        .ok();
    client
}

/// Starts an instance `gate:one`.
fn with_instance() -> (Scene, Client) {
    let scene = Scene::start();
    let client = ops(&scene);
    let images = Images::new();
    let image = images.bootable("busybox");
    let files: Vec<&str> = image.files.iter().map(|file| file.to_str().unwrap()).collect();
    client
        .run(&[
            "image", "import", "--quiet", files[0], files[1], "gate:", "--alias", "busybox",
        ])
        .ok();
    client.run(&["launch", "--quiet", "gate:busybox", "gate:one"]).ok();
    (scene, client)
}

fn curl(scene: &Scene, path: &str) -> Curl {
    Curl::get(format!("{}{path}", scene.gateway.admin_url())).presenting(scene.ops())
}

#[test]
fn remote_add_accepts_a_self_signed_server_certificate() {
    let scene = Scene::start();
    let client = ops(&scene);
    let server: Value = serde_json::from_str(&client.run(&["query", "gate:/1.0"]).ok()).unwrap();
    assert_eq!(server["auth"], "trusted");
    assert_eq!(server["environment"]["server"], "incus");

    // A client that is no admin cannot add the remote.
    let stranger = Client::admin(&scene.certificates.client("stranger"));
    let complaint = stranger
        .run(&[
            "remote",
            "add",
            "gate",
            &scene.gateway.admin_url(),
            "--accept-certificate",
        ])
        .fails();
    assert!(complaint.contains("admin.clients does not list"), "{complaint}");
}

#[test]
fn an_image_of_300_megabytes_is_uploaded_and_downloaded() {
    let scene = Scene::start();
    let client = ops(&scene);
    let images = Images::new();
    let image = images.random(Kind::Split, "large", 300);
    let files: Vec<&str> = image.files.iter().map(|file| file.to_str().unwrap()).collect();
    client
        .run(&[
            "image", "import", "--quiet", files[0], files[1], "gate:", "--alias", "large",
        ])
        .ok();
    let list = client
        .run(&["image", "list", "gate:", "--format", "csv", "--columns", "F"])
        .ok();
    assert_eq!(list.trim(), image.fingerprint);

    let target = client.home().join("back");
    fs::create_dir(&target).unwrap();
    client
        .run(&["image", "export", "--quiet", "gate:large", target.to_str().unwrap()])
        .ok();
    assert_eq!(sha256_of(&exported(&target)), image.fingerprint);

    let peak = scene.gateway.memory_peak();
    assert!(peak < 100 * MIB, "{peak} bytes");
}

/// Returns the exported files, metadata first: the client names it `meta-…`.
fn exported(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_by_key(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("meta-"));
    files
}

#[test]
fn an_image_is_uploaded_and_downloaded_over_http2() {
    let scene = Scene::start();
    let images = Images::new();
    let image = images.random(Kind::Unified, "unified", 50);
    let answer = curl(&scene, "/1.0/images")
        .with(["--http2", "--upload-file", image.files[0].to_str().unwrap()])
        .method("POST")
        .header("X-Incus-filename: unified.tar")
        .header("X-Incus-public: true")
        .answer();
    assert_eq!(
        (answer.version.as_str(), answer.status),
        ("2", 202),
        "{}",
        answer.text()
    );
    let operation = answer.json()["operation"].as_str().unwrap().to_owned();
    let wait = curl(&scene, &format!("{operation}/wait")).with(["--http2"]).answer();
    assert_eq!(wait.json()["metadata"]["metadata"]["fingerprint"], image.fingerprint);

    let export = curl(&scene, &format!("/1.0/images/{}/export", image.fingerprint))
        .with(["--http2"])
        .answer();
    assert_eq!(testing::images::sha256(&[&export.body]), image.fingerprint);
}

#[test]
fn monitor_shows_lifecycle_events() {
    let scene = Scene::start();
    let client = ops(&scene);
    let mut monitor = client
        .command()
        .args([
            "monitor",
            "gate:",
            "--all-projects",
            "--type",
            "lifecycle",
            "--format",
            "json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, receiver) = channel();
    let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));

    // The client does not report when it has subscribed, so create events until it prints one.
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    let line = loop {
        assert!(Instant::now() < deadline, "no event came");
        number += 1;
        scene
            .incus
            .run(&["project", "create", "--quiet", &format!("p{number}")])
            .ok();
        if let Ok(line) = receiver.recv_timeout(Duration::from_millis(200)) {
            break line;
        }
    };
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["metadata"]["action"], "project-created");
}

#[test]
fn exec_returns_all_streams_and_the_exit_code() {
    let (_scene, client) = with_instance();
    let random = client.home().join("random");
    fs::write(&random, noise(5 * MIB)).unwrap();
    let output = client
        .command()
        .args(["exec", "gate:one", "--", "sh", "-c", "cat; echo complaint >&2; exit 7"])
        .stdin(fs::File::open(&random).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "complaint\n");
    assert!(
        output.stdout == fs::read(&random).unwrap(),
        "what came back is not what went up"
    );
}

#[test]
fn interactive_exec_is_not_buffered() {
    let (_scene, client) = with_instance();
    let mut exec = client
        .command()
        .args(["exec", "gate:one", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = exec.stdin.take().unwrap();
    let mut stdout = BufReader::new(exec.stdout.take().unwrap());
    for word in ["one\n", "two\n", "three\n"] {
        stdin.write_all(word.as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, word);
    }
    drop(stdin);
    assert!(exec.wait().unwrap().success());
}

#[test]
fn files_are_pushed_and_pulled() {
    let (_scene, client) = with_instance();
    let (there, back) = (client.home().join("there"), client.home().join("back"));
    fs::write(&there, noise(20 * MIB)).unwrap();
    client
        .run(&["file", "push", "--quiet", there.to_str().unwrap(), "gate:one/root/file"])
        .ok();
    client
        .run(&["file", "pull", "--quiet", "gate:one/root/file", back.to_str().unwrap()])
        .ok();
    assert!(
        fs::read(there).unwrap() == fs::read(back).unwrap(),
        "what came back is not what went up"
    );
    client.run(&["file", "delete", "gate:one/root/file"]).ok();
    client
        .run(&["file", "pull", "--quiet", "gate:one/root/file", "none"])
        .fails();
}

#[test]
fn wait_sends_its_header_at_once_and_its_body_at_the_end() {
    let (scene, client) = with_instance();
    client
        .run(&["exec", "gate:one", "--", "/bin/busybox", "mkfifo", "/root/fifo"])
        .ok();
    let exec = json!({ "command": ["/bin/sh", "-c", "read line < /root/fifo"] });
    let started = client.run(&[
        "query",
        "--request",
        "POST",
        "--data",
        &exec.to_string(),
        "gate:/1.0/instances/one/exec",
    ]);
    let started: Value = serde_json::from_str(&started.ok()).unwrap();
    let operation = format!("/1.0/operations/{}", started["id"].as_str().unwrap());

    let admin = TlsClient::of(scene.ops());
    let mut wait = admin.connect(scene.gateway.admin()).unwrap();
    wait.send(format!("GET {operation}/wait HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
        .unwrap();
    let head = wait.read_head().unwrap();
    assert_eq!(head.status, 200);
    let status = |operation: &str| {
        let answer = admin.connect(scene.gateway.admin()).unwrap().get(operation).unwrap();
        answer.json()["metadata"]["status"].clone()
    };
    assert_eq!(status(&operation), "Running");

    client
        .run(&["exec", "gate:one", "--", "/bin/sh", "-c", "echo over > /root/fifo"])
        .ok();
    let body = wait.read_body_of(&head).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["metadata"]["status"], "Success");
}

#[test]
fn projects_are_created_and_listed() {
    let scene = Scene::start();
    let client = ops(&scene);
    client.run(&["project", "create", "--quiet", "gate:second"]).ok();
    let list = client
        .run(&["project", "list", "gate:", "--format", "csv", "--columns", "n"])
        .ok();
    assert!(list.lines().any(|line| line == "second"), "{list}");
    let there = scene
        .incus
        .run(&["project", "list", "--format", "csv", "--columns", "n"])
        .ok();
    assert!(there.lines().any(|line| line == "second"), "{there}");
}

#[test]
fn if_match_rejects_an_update_after_another_change() {
    const PATH: &str = "/1.0/profiles/default";
    let scene = Scene::start();
    for version in ["--http1.1", "--http2"] {
        let profile = curl(&scene, PATH).with([version]).answer();
        let etag = profile.header("etag").expect("an ETag").to_owned();
        let mut change = profile.json()["metadata"].clone();
        change["description"] = version.into();
        let put = |etag: &str| {
            curl(&scene, PATH)
                .with([version, "--data", &change.to_string()])
                .method("PUT")
                .header(&format!("If-Match: {etag}"))
                .answer()
        };
        assert_eq!(put("a wrong one").status, 412);
        assert_eq!(put(&etag).status, 200);
        assert_eq!(put(&etag).status, 412, "it has changed in between");
        assert_eq!(curl(&scene, PATH).answer().json()["metadata"]["description"], version);
    }
}

fn noise(length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let random = fs::File::open("/dev/urandom").unwrap();
    random.take(length).read_to_end(&mut bytes).unwrap();
    bytes
}
