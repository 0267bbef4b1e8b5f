//! Few file descriptors, or none left: the gateway rejects strangers before administrators. When no descriptor is left, it
//! waits without a busy loop, logs this once, and resumes by itself.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testing::certificates::Certificates;
use testing::gateway::{Gateway, PATIENCE, binary};
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::Scripted;
use testing::tls::{End, TlsClient};

fn upstream() -> Scripted {
    Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"welcome"))
}

fn count(gateway: &Gateway, text: &str) -> usize {
    gateway.log().iter().filter(|line| line.contains(text)).count()
}

/// Returns the CPU time that the gateway has used, in ticks of 10 ms.
fn ticks(gateway: &Gateway) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn limit_files(gateway: &Gateway, files: usize) {
    let limit = Command::new("prlimit")
        .args(["--pid", &gateway.pid().to_string(), &format!("--nofile={files}:")])
        .status();
    assert!(limit.unwrap().success());
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_limit() {
    let certificates = Certificates::new();
    let upstream = upstream();
    let setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
    let gateway = Gateway::try_start_by(OsStr::new("prlimit"), &["--nofile=64:9000", binary()], &setup.text()).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("9000"));
    assert_eq!(count(&gateway, "limits.max_connections is"), 0, "that is enough");
}

#[test]
fn with_few_descriptors_admins_are_still_served() {
    let certificates = Certificates::new();
    let upstream = upstream();
    let setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
    let gateway = Gateway::try_start_by(OsStr::new("prlimit"), &["--nofile=128:128", binary()], &setup.text()).unwrap();
    gateway.wait_for_log("limits.max_connections is 4096, but the system allows 128 open files");

    let crowd: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(gateway.public()).unwrap())
        .collect();
    gateway.wait_for_log("limits.max_connections: the public port is full");
    let crowd_of_impostors: Vec<_> = (0..300).map(|_| TcpStream::connect(gateway.admin()).unwrap()).collect();
    let ops = TlsClient::of(&setup.admins[0].1);
    let mut open: Vec<_> = (0..8).map(|_| ops.connect(gateway.admin()).unwrap()).collect();
    for admin in &mut open {
        assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);
    }
    assert_eq!(count(&gateway, "cannot accept"), 0);
    drop((crowd, crowd_of_impostors));
}

#[test]
fn out_of_descriptors_the_gateway_waits_and_resumes() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    let gateway = &scene.gateway;
    let ops = TlsClient::of(scene.ops());
    // Descriptors for the admin's requests are open already.
    assert_eq!(
        ops.connect(gateway.admin()).unwrap().get("/1.0/x").unwrap().head.status,
        200
    );

    limit_files(gateway, gateway.open_files() + 10);
    let crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(gateway.public()).unwrap())
        .collect();
    let message = gateway.wait_for_log("cannot accept connections: Too many open files");
    assert!(
        message.contains("ERROR") && message.contains("LimitNOFILE="),
        "{message}"
    );

    let (begun, before) = (Instant::now(), ticks(gateway));
    thread::sleep(Duration::from_secs(2));
    let (used, time) = (ticks(gateway) - before, begun.elapsed());
    assert!(used <= 20, "it used {used} ticks of CPU time in {time:?}");
    assert_eq!(count(gateway, "cannot accept"), 1, "one line an episode");

    // After the clients have disconnected, service resumes without intervention.
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    let mut admin = loop {
        match ops.connect(gateway.admin()) {
            Ok(raw) => break raw,
            Err(end) => assert!(Instant::now() < deadline && end != End::Silence, "{end}"),
        }
    };
    assert_eq!(admin.get("/1.0/x").unwrap().head.status, 200);
    let mut stranger = TlsClient::tls13().connect(gateway.public()).unwrap();
    assert_eq!(stranger.get("/1.0").unwrap().head.status, 200);
    assert_eq!(count(gateway, "cannot accept"), 1);
}
