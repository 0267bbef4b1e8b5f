//! The process cannot use the privileges that it has dropped. Needs a kernel with Landlock, and fails without it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use incus_gate::config::Config;
use incus_gate::sandbox;
use tempfile::TempDir;
use testing::certificates::Certificates;
use testing::gateway::{Gateway, binary};
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::Scripted;

/// A configuration, its files, and the sockets that a gateway opens before it enters the sandbox.
struct World {
    proxy_toml: PathBuf,
    own: Vec<PathBuf>,
    /// The folder of Incus's certificate and key.
    incus: TempDir,
    here: TempDir,
    log: File,
    incus_port: TcpListener,
    _certificates: Certificates,
}

impl World {
    fn new() -> Self {
        let (here, incus) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificates = Certificates::new();
        let pin = incus.path().join("server.crt");
        let mut setup = Setup::new(&certificates, "https://127.0.0.1:1", &pin);
        "[store]\ndirectory = \"store\"\n".clone_into(&mut setup.more);
        fs::create_dir(here.path().join("store")).unwrap();
        // It needs no library from elsewhere.
        fs::copy("/bin/busybox", here.path().join("store/true")).unwrap();
        fs::copy(&setup.local.certificate, &pin).unwrap();
        fs::copy(&setup.local.key, incus.path().join("server.key")).unwrap();
        let proxy_toml = here.path().join("proxy.toml");
        fs::write(&proxy_toml, setup.text()).unwrap();
        Self {
            own: vec![proxy_toml.clone(), setup.server.certificate, setup.server.key, pin],
            proxy_toml,
            incus,
            log: File::create(here.path().join("log")).unwrap(),
            here,
            incus_port: TcpListener::bind("127.0.0.1:0").unwrap(),
            _certificates: certificates,
        }
    }

    fn perform_permitted_operations(&self, notify: &UnixDatagram, address: SocketAddr) {
        for file in &self.own {
            fs::read(file).unwrap();
        }
        (&self.log).write_all(b"a line").unwrap();
        // As the store does.
        let store = self.here.path().join("store");
        fs::create_dir_all(store.join("files")).unwrap();
        fs::write(store.join("new"), "a file").unwrap();
        fs::rename(store.join("new"), store.join("files/file")).unwrap();
        assert_eq!(fs::read_dir(store.join("files")).unwrap().count(), 1);
        File::open(store.join("files/file"))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        fs::remove_file(store.join("files/file")).unwrap();
        TcpStream::connect(address).unwrap();
        let own = UnixDatagram::unbound().unwrap();
        let path = notify.local_addr().unwrap().as_pathname().unwrap().to_owned();
        own.send_to(b"READY=1", path).unwrap();
    }

    /// Returns operations that a running gateway does not need, and whether each is denied.
    fn forbidden_operations(&self) -> Vec<(&'static str, bool)> {
        let incus = self.incus.path();
        vec![
            (
                "read beside Incus's certificate",
                denied(fs::read(incus.join("server.key"))),
            ),
            ("read the system's files", denied(fs::read("/etc/passwd"))),
            ("read its own environment", denied(fs::read("/proc/self/environ"))),
            ("list a folder", denied(fs::read_dir(self.here.path()))),
            (
                "run a program in the store",
                denied(Command::new(self.here.path().join("store/true")).status()),
            ),
            (
                "make a link in the store",
                denied(symlink("/etc/passwd", self.here.path().join("store/link"))),
            ),
            ("write where it reads", denied(fs::write(&self.proxy_toml, "nonsense"))),
            ("make a file", denied(fs::write(self.here.path().join("made"), ""))),
            ("run a program", denied(Command::new("/bin/true").status())),
            ("bind a port", denied(TcpListener::bind("127.0.0.1:0"))),
        ]
    }
}

fn denied<T>(outcome: io::Result<T>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => true,
        Err(error) => panic!("neither allowed nor denied: {error}"),
    }
}

/// Landlock restricts a thread and those that it starts, so a thread of this test can stand for the gateway.
#[test]
fn only_its_own_files_and_connections_remain_accessible() {
    let world = World::new();
    let notify = UnixDatagram::bind(world.here.path().join("notify")).unwrap();
    let address = world.incus_port.local_addr().unwrap();
    let config = Config::load(&world.proxy_toml).unwrap();
    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            sandbox::enter(&world.proxy_toml, &config);
            thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    world.perform_permitted_operations(&notify, address);
                    world.forbidden_operations()
                });
                worker.join().unwrap()
            })
        });
        for (operation, denied) in confined.join().unwrap() {
            assert!(denied, "it could still {operation}");
        }
    });
    // Nothing but the sandbox denied them.
    world.perform_permitted_operations(&notify, address);
    for (operation, denied) in world.forbidden_operations() {
        assert!(!denied, "nobody can {operation}");
    }
}

#[test]
fn a_reload_cannot_read_new_directories() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);
    scene.gateway.wait_for_log("confined by Landlock");
    let elsewhere = tempfile::tempdir().unwrap();
    let renewed = scene.certificates.server("renewed");
    for (file, old) in [
        (&renewed.certificate, &scene.setup.server.certificate),
        (&renewed.key, &scene.setup.server.key),
    ] {
        let moved = elsewhere.path().join(file.file_name().unwrap());
        fs::rename(file, &moved).unwrap();
        fs::remove_file(old).unwrap();
        symlink(moved, old).unwrap();
    }
    scene.gateway.signal("HUP");
    let line = scene.gateway.wait_for_log("reload failed");
    let old = scene.setup.server.certificate.display().to_string();
    for part in [old.as_str(), "Permission denied", "needs a restart"] {
        assert!(line.contains(part), "{line}");
    }

    // A restarted gateway can read them.
    Gateway::start(&scene.setup.text());
}

#[test]
fn other_processes_of_its_user_cannot_read_its_memory() {
    let certificates = Certificates::new();
    let mut setup = Setup::new(&certificates, "https://127.0.0.1:1", Path::new(""));
    setup.pin = Some(setup.local.certificate.clone());
    // This user can read this test's files although they belong to root.
    let as_nobody = [
        "--reuid=65534",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
        binary(),
    ];
    let gateway = Gateway::try_start_by(OsStr::new("setpriv"), &as_nobody, &setup.text()).unwrap();
    let process = Path::new("/proc").join(gateway.pid().to_string());
    let status = fs::read_to_string(process.join("status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t"), "{status}");
    // The files of a process that is not dumpable belong to root.
    assert_eq!(fs::metadata(process.join("mem")).unwrap().uid(), 0);
}
