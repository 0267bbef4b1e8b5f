//! The gateway under valgrind, which counts its operations.

use std::ffi::OsStr;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use testing::gateway::{Gateway, binary};

/// A gateway with one worker, whatever the number of cores: only its first request to Incus needs a new connection.
#[derive(Debug)]
pub(crate) struct Valgrind {
    pub(crate) gateway: Gateway,
    folder: TempDir,
    _core: Taken,
}

impl Valgrind {
    /// `tool` has valgrind's arguments; `prefix` is the beginning of its option for the output file.
    pub(crate) fn start(core: Core, tool: &[&str], prefix: &str, configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = format!("--{prefix}-out-file={}", folder.path().join("counts").display());
        let core = core.take();
        let mut arguments = vec![
            "--cpu-list",
            &core.number,
            "valgrind",
            "--quiet",
            "--read-inline-info=no",
            &file,
        ];
        arguments.extend(tool);
        arguments.push(binary());
        let gateway = Gateway::try_start_by(OsStr::new("taskset"), &arguments, configuration);
        let gateway = gateway.unwrap_or_else(|ended| panic!("the gateway does not start under valgrind: {ended:#?}"));
        Self {
            gateway,
            folder,
            _core: core,
        }
    }

    /// Returns the output file whose name has this ending.
    pub(crate) fn counts(&self, end: &str) -> PathBuf {
        self.folder.path().join(format!("counts{end}"))
    }
}

/// Returns the number of bytes that memcpy and similar functions copy during the lifetime of a gateway that does `work`.
pub(crate) fn bytes_copied(configuration: &str, work: impl FnOnce(&Gateway)) -> f64 {
    let valgrind = Valgrind::start(Core::First, &["--tool=dhat", "--mode=copy"], "dhat", configuration);
    work(&valgrind.gateway);
    valgrind.gateway.signal("TERM");
    assert!(valgrind.gateway.exit_status().success());
    let counts = fs::read(valgrind.counts("")).expect("dhat writes down what it has counted");
    let counts: Value = serde_json::from_slice(&counts).expect("dhat writes JSON");
    let points = counts["pps"].as_array().expect("dhat tells of program points");
    points.iter().filter_map(|point| point["tb"].as_f64()).sum()
}

/// One of the available cores. Two tools must not share one, because timeouts of Incus and of the tests would expire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    First,
    Last,
}

/// A core that no other tool uses until this value is dropped.
#[derive(Debug)]
struct Taken {
    number: String,
    _lock: MutexGuard<'static, ()>,
}

impl Core {
    /// Waits until the core is free.
    fn take(self) -> Taken {
        static FREE: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
        let number = self.number();
        let lock = &FREE[usize::from(number != Self::First.number())];
        Taken {
            number,
            // A test that panicked has dropped its gateway.
            _lock: lock.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn number(self) -> String {
        let status = fs::read_to_string("/proc/self/status").expect("the kernel's own file");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut cores = list.expect("the kernel's own format").trim().split(',').flat_map(cores);
        let core = match self {
            Self::First => cores.next(),
            Self::Last => cores.last(),
        };
        core.expect("we run on a core").to_string()
    }
}

/// Parses `6` or `0-3`.
fn cores(range: &str) -> RangeInclusive<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |digits: &str| digits.parse().expect("a core's number");
    number(first)..=number(last)
}
