//! The gateway's binary, the subject of the tests.

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

/// Timeout for operations that a healthy gateway completes much faster.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Timeout for the start, which takes seconds under valgrind because aws-lc gathers entropy, and longer on a busy machine.
const STARTING: Duration = Duration::from_secs(60);

/// Returns the path of the binary. Cargo puts it next to the folder of the tests and benchmarks.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        let this = std::env::current_exe().expect("a test has an executable");
        let binary = this.ancestors().nth(2).expect("Cargo's folders").join("incus-gate");
        assert!(binary.exists(), "there is no {}: build it first", binary.display());
        binary.into_os_string().into_string().expect("a path in UTF-8")
    });
    &BINARY
}

/// A running gateway. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    child: Mutex<Child>,
    pid: u32,
    log: Arc<Log>,
}

/// A gateway that exited before it was ready.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// The log lines.
    pub log: Vec<String>,
}

impl Gateway {
    /// Starts a gateway with this configuration, and waits until it is ready. Panics if it exits.
    pub fn start(configuration: &str) -> Self {
        Self::try_start(configuration).unwrap_or_else(|ended| panic!("the gateway does not start: {ended:#?}"))
    }

    /// Like [`Self::start`], for configurations that the gateway may reject.
    pub fn try_start(configuration: &str) -> Result<Self, Ended> {
        Self::try_start_by(OsStr::new(binary()), &[], configuration)
    }

    /// Like [`Self::try_start`], through a program that then executes the gateway, such as `prlimit`.
    pub fn try_start_by(program: &OsStr, arguments: &[&str], configuration: &str) -> Result<Self, Ended> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self::try_start_command(command, configuration)
    }

    /// Like [`Self::try_start`], with a command prepared as by a service manager.
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

    /// Returns the address of the public port.
    pub fn public(&self) -> SocketAddr {
        self.listening_on("public")
    }

    /// Returns the address of the admin port.
    pub fn admin(&self) -> SocketAddr {
        self.listening_on("admin")
    }

    /// Returns the number of the public port.
    pub fn public_port(&self) -> u16 {
        self.public().port()
    }

    /// Returns the number of the admin port.
    pub fn admin_port(&self) -> u16 {
        self.admin().port()
    }

    /// Returns `https://localhost:PORT` of the public port.
    pub fn public_url(&self) -> String {
        format!("https://localhost:{}", self.public_port())
    }

    /// Returns `https://localhost:PORT` of the admin port.
    pub fn admin_url(&self) -> String {
        format!("https://localhost:{}", self.admin_port())
    }

    /// Returns `http://127.0.0.1:PORT` of the metrics listener.
    pub fn metrics_url(&self) -> String {
        format!("http://{}", self.listening_on("metrics"))
    }

    /// Returns the path of the configuration.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    /// Writes another configuration. [`signal`](Self::signal) makes the gateway reload it.
    pub fn reconfigure(&self, configuration: &str) {
        std::fs::write(self.configuration(), configuration).expect("a temporary file can be written");
    }

    /// Returns the path of the status socket in the default test configuration.
    pub fn status_socket(&self) -> PathBuf {
        self.folder.path().join("status.sock")
    }

    /// Returns a command of the binary with this gateway's configuration.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary());
        command.arg(name).arg("--config").arg(self.configuration());
        command
    }

    /// Returns all log lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Returns the number of log lines so far.
    pub fn log_length(&self) -> usize {
        lock(&self.log.state).lines.len()
    }

    /// Waits for a log line that contains this text. Earlier lines count too.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// Like [`Self::wait_for_log`], ignoring the first `count` lines (`gateway.log().len()` before the cause of the line).
    #[track_caller]
    pub fn wait_for_log_after(&self, count: usize, text: &str) -> String {
        let found = self.wait_for_line_after(count, |line| line.contains(text));
        found.unwrap_or_else(|| panic!("no line of the log holds {text:?}"))
    }

    /// Waits for a matching line after the first `count` ones. Returns `None` if there is none in time.
    pub fn wait_for_line_after(&self, count: usize, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.log.wait_for(count, PATIENCE, is_wanted)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// Returns the peak resident memory, in bytes.
    pub fn memory_peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Returns the current resident memory, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Returns the number of open file descriptors.
    pub fn open_files(&self) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        folder.expect("the process runs").count()
    }

    /// Waits until the gateway exits.
    #[track_caller]
    pub fn exit_status(&self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                // The last log lines have then been read too.
                self.log.wait_for_the_end();
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the exit status, if the gateway has exited.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().expect("a child of this process")
    }

    fn listening_on(&self, port: &str) -> SocketAddr {
        // In both log formats, text and JSON.
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
            .expect("a log line contains the address");
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
        // It may have exited already.
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

    /// Waits for the first matching line after `count` lines. Returns `None` after the timeout, or when the log has ended.
    fn wait_for(&self, count: usize, patience: Duration, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let found = |state: &LogState| state.lines.iter().skip(count).find(|line| is_it(line)).cloned();
        let waiting = |state: &mut LogState| !state.ended && found(state).is_none();
        let state = self.changed.wait_timeout_while(lock(&self.state), patience, waiting);
        found(&state.expect("no thread panics while holding the lock").0)
    }

    fn wait_for_the_end(&self) {
        let state = self
            .changed
            .wait_timeout_while(lock(&self.state), PATIENCE, |state| !state.ended);
        drop(state);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while holding the lock")
}

/// Formats a path as a TOML string.
pub fn toml(path: &Path) -> String {
    serde_json::Value::from(path.to_str().expect("the name of a temporary folder is UTF-8")).to_string()
}
