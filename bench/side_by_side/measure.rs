//! Resource usage of processes, and detection of other load on the machine.
//!
//! Wall-clock time says little on a shared machine. The kernel's CPU time of a process, user and system, for all its threads,
//! is the cost of the work.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;

/// The unit of the kernel's counters: 100 ticks per second on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// The maximum CPU usage of other processes during a sample, as a fraction of one core.
const TOLERANCE: f64 = 0.10;
/// The precision of the system-wide counters, in which each tick is attributed as a whole.
const GRAIN: Duration = Duration::from_millis(30);
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the CPU time of these processes so far.
pub(crate) fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let fields = stat(&format!("/proc/{pid}/stat"))?;
        ticks += fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// Returns the memory of these processes, in bytes. The field is `VmRSS`, or `VmHWM` for the peak.
pub(crate) fn memory(pids: &[u32], field: &str) -> Result<u64> {
    let mut kibibytes = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes += number
            .ok_or("the kernel does not tell a process's memory")?
            .parse::<u64>()?;
    }
    Ok(kibibytes << 10)
}

/// Returns the kernel memory for the TCP connections of these processes, in bytes: received and unread data, and sent and
/// unacknowledged data.
pub(crate) fn kernel_memory(pids: &[u32]) -> Result<u64> {
    let output = Command::new("ss").args(["-tmnpHO"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let owners: Vec<_> = pids.iter().map(|pid| format!("pid={pid},")).collect();
    let ours = text
        .lines()
        .filter(|line| owners.iter().any(|owner| line.contains(owner)));
    Ok(ours.flat_map(socket_memory).sum())
}

/// Parses the receive and send queues from a line with `skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)`.
fn socket_memory(line: &str) -> Option<u64> {
    let (_, fields) = line.split_once("skmem:(")?;
    let (fields, _) = fields.split_once(')')?;
    let counted = fields.split(',').flat_map(|field| {
        let number = field.strip_prefix(['r', 'w'])?;
        // "rb" is a limit; the rest of that field does not parse as a number.
        number.parse::<u64>().ok()
    });
    Some(counted.sum())
}

/// Returns the number of open file descriptors of these processes.
pub(crate) fn open_files(pids: &[u32]) -> Result<usize> {
    let mut count = 0;
    for pid in pids {
        count += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    }
    Ok(count)
}

/// Waits until all threads of the processes are idle, because deferred work belongs to the sample too.
pub(crate) async fn wait_until_idle(pids: &[u32]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut quiet_looks = 0;
    while quiet_looks < 3 {
        if Instant::now() > deadline {
            return Err(format!("processes {pids:?} do not come to rest").into());
        }
        tokio::time::sleep(LOOK).await;
        quiet_looks = if is_idle(pids)? { quiet_looks + 1 } else { 0 };
    }
    Ok(())
}

fn is_idle(pids: &[u32]) -> Result<bool> {
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("stat");
            // A thread may have ended in the meantime.
            if stat(&path.to_string_lossy()).is_ok_and(|fields| fields[0] != "S") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Returns the fields after the name, which can contain any character.
fn stat(path: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    let (_, fields) = text.rsplit_once(')').ok_or("the kernel's stat has no name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// Detects CPU usage of unrelated processes.
#[derive(Debug)]
pub(crate) struct Watch {
    ours: Vec<u32>,
    begun: Instant,
    busy: Duration,
    known: Duration,
}

impl Watch {
    /// Starts to watch. `ours` are all processes that belong to the measurement.
    pub(crate) fn begin(ours: Vec<u32>) -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            busy: busy()?,
            known: cpu(&ours)?,
            ours,
        })
    }

    /// Returns whether other processes used so much CPU time that the measurement may be wrong.
    pub(crate) fn was_disturbed(&self) -> Result<bool> {
        let busy = busy()?.saturating_sub(self.busy);
        let known = cpu(&self.ours)?.saturating_sub(self.known);
        Ok(busy.saturating_sub(known) > GRAIN + self.begun.elapsed().mul_f64(TOLERANCE))
    }
}

/// Returns the non-idle time of all cores, including time that the hypervisor gave to other machines.
fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u32> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    match fields[..] {
        [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] => {
            Ok(TICK * (user + nice + system + irq + softirq + steal))
        }
        _ => Err("the kernel's /proc/stat is of an unknown form".into()),
    }
}
