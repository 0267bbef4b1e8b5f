//! Under systemd: the gateway reports its state, the watchdog detects a stuck worker, a restart rejects no connection, and the
//! unit removes every privilege that can be removed.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use std::thread;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use testing::certificates::Certificates;
use testing::gateway::{Gateway, binary};
use testing::load::{Load, assert_served};
use testing::run::run;
use testing::scene::Setup;
use testing::scripted::Scripted;
use testing::systemd::Manager;
use testing::tls::TlsClient;

/// A service manager, and a configuration with an upstream that has an empty list of images.
struct Scene {
    manager: Manager,
    setup: Setup,
    _certificates: Certificates,
    _upstream: Scripted,
}

impl Scene {
    fn new() -> Self {
        let manager = Manager::start();
        let certificates = Certificates::new();
        let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
        let setup = Setup::new(&certificates, &upstream.url(), &upstream.certificate());
        Self {
            manager,
            setup,
            _certificates: certificates,
            _upstream: upstream,
        }
    }

    /// Uses the addresses of the manager's sockets.
    fn with_sockets() -> Self {
        let mut scene = Self::new();
        scene.setup.public = scene.manager.public().to_string();
        scene.setup.admin = scene.manager.admin().to_string();
        scene
    }

    fn start(&self, command: Command) -> Gateway {
        Gateway::try_start_command(command, &self.setup.text()).unwrap_or_else(|ended| panic!("{ended:#?}"))
    }
}

#[test]
fn systemd_is_notified_of_start_reload_and_stop() {
    let scene = Scene::new();
    let manager = &scene.manager;
    let gateway = scene.start(manager.command());
    assert!(manager.wait_for("READY=1").contains(&"STATUS=serving".to_owned()));

    gateway.signal("HUP");
    let reloading = manager.wait_for("RELOADING=1");
    let now = fs::read_to_string("/proc/uptime").unwrap();
    let now: f64 = now.split(' ').next().unwrap().parse().unwrap();
    let then = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let then = then.unwrap().parse::<f64>().unwrap() / 1e6;
    assert!((now - 60.0..now + 1.0).contains(&then), "{then} s, and now {now} s");
    assert!(
        manager
            .wait_for("READY=1")
            .contains(&"STATUS=serving; reloaded".to_owned())
    );

    // One line, although the TOML parser's message has several.
    gateway.reconfigure("this is no TOML");
    gateway.signal("HUP");
    manager.wait_for("RELOADING=1");
    let refused = manager.wait_for("READY=1");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[1].starts_with("STATUS=serving; reload failed: "), "{refused:?}");

    gateway.signal("TERM");
    let stopping = manager.wait_for("STOPPING=1");
    assert!(
        stopping.contains(&"EXTEND_TIMEOUT_USEC=35000000".to_owned()),
        "{stopping:?}"
    );
    assert_eq!(gateway.exit_status().code(), Some(0));
}

#[test]
fn a_stuck_worker_starves_the_watchdog() {
    const FED: &str = "WATCHDOG=1";
    const LIMIT: Duration = Duration::from_secs(1);
    let scene = Scene::new();
    let manager = &scene.manager;
    let mut command = manager.command();
    command.env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
    let gateway = scene.start(command);
    for _ in 0..3 {
        manager.wait_for(FED);
    }

    for worker in workers(&gateway) {
        let stuck = Stuck::new(worker);
        gateway.wait_for_log_after(gateway.log().len(), "a worker does not respond");
        // Discard earlier messages. The process itself still handles signals.
        while manager.receives(FED, Duration::from_millis(1)) {}
        gateway.signal("HUP");
        manager.wait_for("READY=1");
        assert!(!manager.receives(FED, 2 * LIMIT), "fed though {worker} stands still");

        drop(stuck);
        manager.wait_for(FED);
    }
}

/// A stopped thread in a running process. It continues when this value is dropped.
struct Stuck(Pid);

impl Stuck {
    fn new(thread: Pid) -> Self {
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Otherwise the process could not be killed.
        ptrace::detach(self.0, None).unwrap();
    }
}

/// Returns the worker threads.
fn workers(gateway: &Gateway) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let workers: Vec<_> = threads
        .map(|thread| thread.unwrap())
        .filter(|thread| {
            fs::read_to_string(thread.path().join("comm"))
                .unwrap()
                .starts_with("worker-")
        })
        .map(|thread| Pid::from_raw(thread.file_name().to_str().unwrap().parse().unwrap()))
        .collect();
    assert_eq!(workers.len(), thread::available_parallelism().unwrap().get());
    workers
}

#[test]
fn a_restart_with_passed_sockets_rejects_no_connection() {
    const CLIENTS: usize = 4;
    const RESTARTS: usize = 5;
    let scene = Scene::with_sockets();
    let (public, admin) = (scene.manager.public(), scene.manager.admin());
    let load = Load::default();
    thread::scope(|scope| {
        let done = load.until_dropped();
        for _ in 0..CLIENTS {
            load.ask(scope, TlsClient::tls13(), public, "/1.0", assert_served);
            let ops = TlsClient::of(&scene.setup.admins[0].1);
            load.ask(scope, ops, admin, "/1.0/short", assert_served);
        }
        for _ in 0..=RESTARTS {
            let gateway = scene.start(scene.manager.command_with_sockets());
            load.wait_for_more(50);
            gateway.signal("TERM");
            assert_eq!(gateway.exit_status().code(), Some(0), "{:#?}", gateway.log());
        }
        // For the clients that are still waiting.
        let last = scene.start(scene.manager.command_with_sockets());
        load.wait_for_more(CLIENTS * 2);
        drop(done);
        last
    });
}

#[test]
fn a_passed_socket_without_a_listen_address_is_an_error() {
    let mut scene = Scene::with_sockets();
    let admin = scene.manager.admin();
    // This address cannot be bound either, but the error must name the socket.
    scene.setup.admin = "192.0.2.1:443".to_owned();
    let ended = Gateway::try_start_command(scene.manager.command_with_sockets(), &scene.setup.text()).unwrap_err();
    assert_eq!(ended.status.code(), Some(78));
    let message = ended.log.join("\n");
    assert!(
        message.contains(&admin.to_string()) && message.contains("ListenStream="),
        "{message}"
    );

    let no_sockets = || [(); 2].map(|()| OwnedFd::from(fs::File::open("/dev/null").unwrap()));
    let ended = Gateway::try_start_command(scene.manager.command_with(no_sockets()), &scene.setup.text()).unwrap_err();
    assert_eq!(ended.status.code(), Some(78));
    assert!(ended.log.join("\n").contains("not a TCP socket"), "{ended:?}");
}

#[test]
fn a_port_without_a_passed_socket_is_bound() {
    let scene = Scene::with_sockets();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = scene.setup.text();
    let both = format!("listen = [\"{}\", \"{free}\"]", scene.setup.public);
    let text = text.replacen(&format!("listen = \"{}\"", scene.setup.public), &both, 1);
    let gateway = Gateway::try_start_command(scene.manager.command_with_sockets(), &text).unwrap();
    for port in [scene.manager.public(), free] {
        let answer = TlsClient::tls13().connect(port).unwrap().get("/1.0").unwrap();
        assert_eq!(answer.head.status, 200);
    }
    drop(gateway);
}

#[test]
fn systemd_analyze_rates_the_unit_as_hardened() {
    // In tenths: 1.5.
    let security = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=15"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/incus-gate.service")));
    let report = security.ok();
    assert!(
        report.contains("Overall exposure level for incus-gate.service: "),
        "{report}"
    );
}

#[test]
fn systemd_accepts_what_make_install_installs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(Command::new("make")
        .args(["install", "PREFIX=/opt/gate"])
        .arg(format!("BINARY={}", binary()))
        .arg(format!("DESTDIR={}", root.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR")))
    .ok();
    let units = root.join("opt/gate/lib/systemd/system");
    let service = fs::read_to_string(units.join("incus-gate.service")).unwrap();
    assert!(
        service.contains("\nExecStart=/opt/gate/bin/incus-gate run "),
        "{service}"
    );
    assert!(!service.contains("/usr/local"), "{service}");
    // The default of store.directory.
    assert!(
        service.contains("\nCacheDirectory=incus-gate\nCacheDirectoryMode=0700\n"),
        "{service}"
    );
    for line in service.lines().filter_map(|line| line.strip_prefix("Documentation=")) {
        for file in line.split(' ').filter_map(|url| url.strip_prefix("file:/")) {
            assert!(root.join(file).is_file(), "{file} is not installed");
        }
    }
    // The path that systemd checks differs here.
    let here = service.replace("/opt/gate/", &format!("{}/opt/gate/", root.display()));
    fs::write(units.join("incus-gate.service"), here).unwrap();
    let verify = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["incus-gate.service", "incus-gate.socket"].map(|unit| units.join(unit))));
    let complaints: Vec<_> = verify.stderr.lines().filter(|line| !is_known_warning(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(verify.status.success(), "{verify}");

    run(Command::new("systemd-sysusers")
        .arg(format!("--root={}", prepared(root).display()))
        .arg(root.join("opt/gate/lib/sysusers.d/incus-gate.conf")))
    .ok();
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(users.contains("incus-gate:"), "{users}");
}

/// Prepares the files that systemd-sysusers extends.
fn prepared(root: &Path) -> &Path {
    fs::create_dir(root.join("etc")).unwrap();
    root
}

/// Returns whether this is the one warning of a systemd before 253 about the unit, which works there too.
fn is_known_warning(line: &str) -> bool {
    line.ends_with("Failed to parse service type, ignoring: notify-reload")
}
