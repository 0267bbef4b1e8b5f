//! Another program on given cores. It ends when its owner is dropped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::list;
use testing::run::signal;

/// How long to wait after a program was asked to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts a program on the cores that follow. The kernel ends it if this process dies.
pub(crate) const STARTER: (&str, [&str; 4]) = ("setpriv", ["--pdeathsig", "TERM", "taskset", "-c"]);

#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts the program. Its output goes to `log`.
    pub(crate) fn start(cores: &[usize], program: &str, arguments: &[&str], log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        let child = Command::new(STARTER.0)
            .args(STARTER.1)
            .args([&list(cores), program])
            .args(arguments)
            .env("GOMAXPROCS", cores.len().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C must reach only this process, which then stops the program cleanly.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }

    /// Returns the ids of the process and its workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        family(self.0.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.pids();
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        signal(self.0.id(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        for pid in family {
            // Some may have ended already.
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).output();
        }
        let _ = self.0.wait();
    }
}

/// Returns the ids of a process and its children.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    // Nginx's loader of the cache ends by itself after a minute.
    let is_passing = |child: &u32| {
        let command = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        command.contains("cache loader")
    };
    std::iter::once(pid)
        .chain(children.filter(|child| !is_passing(child)))
        .collect()
}
