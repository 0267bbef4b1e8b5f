//! The gateway's own binary under test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::run::signal;

/// For what a healthy gateway does in far less.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// For its start, which takes seconds under valgrind: aws-lc gathers entropy. On a busy machine more.
const STARTING: Duration = Duration::from_secs(60);

/// The binary: Cargo puts it beside the folder in which the tests and the benchmarks are.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        let this = std::env::current_exe().expect("a test is a program");
        let binary = this.ancestors().nth(2).expect("Cargo's folders").join("incus-gate");
        assert!(binary.exists(), "there is no {}: build it first", binary.display());
        binary.into_os_string().into_string().expect("a path in UTF-8")
    });
    &BINARY
}

/// A running gateway; it is killed when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    child: Mutex<Child>,
    pid: u32,
    log: Arc<Log>,
}

/// One that has ended before it was ready.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it said.
    pub log: Vec<String>,
}

impl Gateway {
    /// Starts one with this configuration, and waits until it is ready.
    pub fn start(configuration: &str) -> Self {
        Self::try_start(configuration).unwrap_or_else(|ended| panic!("the gateway does not start: {ended:#?}"))
    }

    /// The same, for configurations that it should refuse.
    pub fn try_start(configuration: &str) -> Result<Self, Ended> {
        Self::try_start_by(OsStr::new(binary()), &[], configuration)
    }

    /// The same, with the gateway's command line behind a program that ends up as the gateway, such as `prlimit`.
    pub fn try_start_by(program: &OsStr, arguments: &[&str], configuration: &str) -> Result<Self, Ended> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self::try_start_command(command, configuration)
    }

    /// The same, with all that a service manager may have set up.
    pub fn try_start_command(mut command: Command, configuration: &str) -> Result<Self, Ended> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("proxy.toml");
        std::fs::write(&path, configuration).expect("a temporary file can be written");
        command
            .args(["run", "--config"])
            .arg(&path)
            .current_dir("/")
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().expect("the gateway's binary runs");
        let log = Log::read(child.stderr.take().expect("stderr is a pipe"));
        let pid = child.id();
        let gateway = Self {
            folder,
            child: Mutex::new(child),
            pid,
            log,
        };
        if gateway
            .log
            .wait_for(0, STARTING, |line| {
                line.ends_with(" ready") || line.contains(r#""message":"ready""#)
            })
            .is_some()
        {
            return Ok(gateway);
        }
        let status = gateway.exit_status();
        let log = gateway.log();
        Err(Ended { status, log })
    }

    /// Where the public port is.
    pub fn public(&self) -> SocketAddr {
        self.listening_on("public")
    }

    /// Where the admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.listening_on("admin")
    }

    /// The public port's number.
    pub fn public_port(&self) -> u16 {
        self.public().port()
    }

    /// The admin port's number.
    pub fn admin_port(&self) -> u16 {
        self.admin().port()
    }

    /// `https://localhost:PORT` of the public port.
    pub fn public_url(&self) -> String {
        format!("https://localhost:{}", self.public_port())
    }

    /// `https://localhost:PORT` of the admin port.
    pub fn admin_url(&self) -> String {
        format!("https://localhost:{}", self.admin_port())
    }

    /// `http://127.0.0.1:PORT` of the listener for metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}", self.listening_on("metrics"))
    }

    /// The configuration's file.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    /// Writes another configuration; see [`signal`](Self::signal) for making the gateway read it.
    pub fn reconfigure(&self, configuration: &str) {
        std::fs::write(self.configuration(), configuration).expect("a temporary file can be written");
    }

    /// Where it tells how it is, by the usual configuration.
    pub fn status_socket(&self) -> PathBuf {
        self.folder.path().join("status.sock")
    }

    /// A command of the binary, of this gateway's configuration.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary());
        command.arg(name).arg("--config").arg(self.configuration());
        command
    }

    /// Every line of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// How many these are.
    pub fn log_length(&self) -> usize {
        lock(&self.log.state).lines.len()
    }

    /// Waits for a line that holds this text, those written before included.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// The same, but of the lines after so many (`gateway.log().len()` before what should cause one).
    #[track_caller]
    pub fn wait_for_log_after(&self, count: usize, text: &str) -> String {
        let found = self.wait_for_line_after(count, |line| line.contains(text));
        found.unwrap_or_else(|| panic!("no line of the log holds {text:?}"))
    }

    /// The first line after so many that is wanted, if one comes.
    pub fn wait_for_line_after(&self, count: usize, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.log.wait_for(count, PATIENCE, is_wanted)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// The most memory that it has held so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it holds now, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// How many files and sockets it holds open.
    pub fn open_files(&self) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        folder.expect("the process runs").count()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn exit_status(&self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                // Its last words have then come too.
                self.log.wait_for_the_end();
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it has ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().expect("our own child")
    }

    fn listening_on(&self, port: &str) -> SocketAddr {
        // In both forms that the log has.
        let texts = [
            format!("listening port={port} address="),
            format!(r#""message":"listening","port":"{port}","address":""#),
        ];
        let address_in = |line: &str| {
            let after = texts.iter().find_map(|text| Some(line.split_once(text)?.1))?;
            after.split([' ', '"']).next().map(str::to_owned)
        };
        let line = self.log.wait_for(0, PATIENCE, |line| address_in(line).is_some());
        let address = line
            .and_then(|line| address_in(&line))
            .expect("a line tells the address");
        address.parse().expect("an address with a port")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes
            .and_then(|number| number.parse::<u64>().ok())
            .expect("the kernel's own format")
            << 10
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log\n{}", self.log().join("\n"));
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn read(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lock(&writer.state).lines.push(line);
                writer.changed.notify_all();
            }
            lock(&writer.state).ended = true;
            writer.changed.notify_all();
        });
        log
    }

    fn lines(&self) -> Vec<String> {
        lock(&self.state).lines.clone()
    }

    /// The first such line after so many; `None` after this time, or when there will be none.
    fn wait_for(&self, count: usize, patience: Duration, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let found = |state: &LogState| state.lines.iter().skip(count).find(|line| is_it(line)).cloned();
        let waiting = |state: &mut LogState| !state.ended && found(state).is_none();
        let state = self.changed.wait_timeout_while(lock(&self.state), patience, waiting);
        found(&state.expect("nobody panics while holding this").0)
    }

    fn wait_for_the_end(&self) {
        let state = self
            .changed
            .wait_timeout_while(lock(&self.state), PATIENCE, |state| !state.ended);
        drop(state);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding this")
}

/// A path as a string of TOML.
pub fn toml(path: &Path) -> String {
    serde_json::Value::from(path.to_str().expect("a temporary folder's name is plain")).to_string()
}
