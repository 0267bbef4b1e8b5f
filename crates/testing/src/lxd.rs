//! A real LXD daemon, removed with all its state when the value is dropped.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::certificates::Certificate;
use super::run::{Output, Started, run};

/// Where scripts/unpack-lxd puts the daemon and its libraries.
const PLACE: &str = "/usr/local/lib/incus-gate-tests/lxd";

/// A running daemon, without a network.
#[derive(Debug)]
pub struct Lxd {
    daemon: Started,
    folder: TempDir,
}

impl Lxd {
    /// Starts a daemon.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The root user of containers is unprivileged here and must be able to reach their files.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("our own folder");
        for name in ["var", "home"] {
            fs::create_dir(folder.path().join(name)).expect("a temporary folder can be created");
        }
        // Without a configuration, the client prints a greeting.
        fs::write(folder.path().join("home/config.yml"), "{}\n").expect("a temporary file can be written");
        let program = Path::new(PLACE).join("usr/bin/lxd");
        assert!(
            program.exists(),
            "there is no {}: run scripts/unpack-lxd",
            program.display()
        );
        let log = File::create(folder.path().join("lxd.log")).expect("a temporary file can be created");
        let mut command = in_environment(&folder, program);
        command
            .args(["--group", "root"])
            .process_group(0)
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log);
        let lxd = Self {
            daemon: Started::by(&mut command),
            folder,
        };
        lxd.daemon_command(&["waitready", "--timeout=60"]).ok();
        lxd.run(&["storage", "create", "default", "dir"]).ok();
        let disk = [
            "profile",
            "device",
            "add",
            "default",
            "root",
            "disk",
            "path=/",
            "pool=default",
        ];
        lxd.run(&disk).ok();
        lxd
    }

    /// Runs LXD's client on the Unix socket, with root's permissions.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        run(in_environment(&self.folder, "lxc").args(arguments))
    }

    /// Makes the client, and the daemon for it, trust this server certificate for the remote of this name.
    pub fn trust_remote(&self, remote: &str, certificate: &Certificate) {
        let folder = self.folder.path().join("home/servercerts");
        fs::create_dir_all(&folder).expect("a temporary folder can be created");
        let file = folder.join(format!("{remote}.crt"));
        fs::copy(&certificate.certificate, file).expect("a temporary file can be written");
    }

    fn daemon_command(&self, arguments: &[&str]) -> Output {
        run(in_environment(&self.folder, Path::new(PLACE).join("usr/bin/lxd")).args(arguments))
    }
}

/// Returns a command of the daemon or the client.
fn in_environment(folder: &TempDir, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = Path::new(PLACE).join("usr/lib").join(triplet);
    command
        .env("LXD_DIR", folder.path().join("var"))
        .env("LXD_CONF", folder.path().join("home"))
        .env("LD_LIBRARY_PATH", libraries);
    command
}

impl Drop for Lxd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("lxd.log"));
            eprintln!("--- lxd\n{}", log.unwrap_or_default());
        }
        // It stops the instances and unmounts what it has mounted. A failure here must not hide the failure of the test.
        let down = self.daemon_command(&["shutdown", "--timeout=30"]);
        if !down.status.success() {
            eprintln!("{down}");
        }
        let _ = self.daemon.wait();
    }
}
