//! The machine: two of its cores, and the settings of this process.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Result;

/// Open file descriptors that the busiest item needs in a single process.
const OPEN_FILES: usize = 15_000;

/// The assignment of processes to cores.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    /// The cores of the proxies.
    pub(crate) proxies: Vec<usize>,
    /// The cores of the upstream and the load.
    pub(crate) others: Vec<usize>,
}

impl Cores {
    /// Selects two of the allowed cores. In the first assignment, the proxies have one core and everything else shares the
    /// other; in the second, everything has both.
    pub(crate) fn apart_and_shared() -> Result<(Self, Self)> {
        let (first, second) = allowed()?;
        let apart = Self {
            proxies: vec![first],
            others: vec![second],
        };
        let shared = Self {
            proxies: vec![first, second],
            others: vec![first, second],
        };
        Ok((apart, shared))
    }
}

/// Formats a list of cores for `taskset`.
pub(crate) fn list(cores: &[usize]) -> String {
    let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

/// Moves this process with all its threads to these cores.
pub(crate) fn move_to(cores: &[usize]) -> Result<()> {
    let own = std::process::id().to_string();
    run("taskset", &["-a", "-p", "-c", &list(cores), &own])
}

/// Raises the limit of open sockets and the timer precision, for this process and its children.
pub(crate) fn prepare() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let allowed = limit
        .and_then(|limit| limit.split_whitespace().nth(1))
        .ok_or("the kernel does not tell our limits")?;
    if allowed.parse().is_ok_and(|allowed: usize| allowed < OPEN_FILES) {
        return Err(format!(
            "this needs {OPEN_FILES} open files, and may have {allowed}: raise the hard limit (ulimit -H -n)"
        )
        .into());
    }
    let own = std::process::id().to_string();
    run("prlimit", &["--pid", &own, &format!("--nofile={allowed}:{allowed}")])?;
    // Otherwise the kernel may wake a thread up to 50 µs late, which is half of the measured latency. Threads inherit it.
    fs::write("/proc/self/timerslack_ns", "1")?;
    Ok(())
}

/// Gives other threads on this core priority over the calling thread.
pub(crate) fn yield_to_others() {
    // "PID/task/TID". If it fails, all threads have the same priority.
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(thread) = thread.file_name().and_then(|name| name.to_str()) {
        let _ = run("renice", &["-n", "19", "-p", thread]);
    }
}

/// Describes the machine in one line.
pub(crate) fn description() -> String {
    let of = |path, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.unwrap_or_default().trim_matches([' ', '\t', ':']).to_owned()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, Linux {}", of("/proc/cpuinfo", "model name"), kernel.trim())
}

fn allowed() -> Result<(usize, usize)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ranges = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for range in ranges
        .ok_or("the kernel does not tell which cores there are")?
        .trim()
        .split(',')
    {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        cores.extend(from.parse::<usize>()?..=to.parse::<usize>()?);
    }
    match cores[..] {
        [first, second, ..] => Ok((first, second)),
        _ => Err("this needs two processor cores: one for the proxies, one for upstream and load".into()),
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Makes the page cache forget the files in a folder, as far as nobody reads them at this moment.
pub(crate) fn forget_files(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        match File::open(&path) {
            Ok(_) if path.is_dir() => forget_files(&path),
            Ok(file) => drop(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)),
            Err(_) => {}
        }
    }
}
