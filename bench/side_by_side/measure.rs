//! What a process has used, and whether something else used the machine meanwhile.
//!
//! Wall-clock time tells little on a machine that is shared with others. The kernel's account of a process's own time,
//! user and system, of all its threads, tells what the work has cost.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;

/// What the kernel counts in; 100 a second on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// What others may use of the machine while a sample is taken, as a part of one core.
const TOLERANCE: f64 = 0.10;
/// The kernel's sums over all processes are made of ticks, each of which is somebody's as a whole.
const GRAIN: Duration = Duration::from_millis(30);
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// CPU time of these processes so far.
pub(crate) fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let fields = stat(&format!("/proc/{pid}/stat"))?;
        ticks += fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// Memory of these processes, in bytes; the field is `VmRSS`, or `VmHWM` for the most that it has been.
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

/// What the kernel holds for the TCP connections of these processes: what was received and not yet read, and what was
/// written and not yet acknowledged, in bytes.
pub(crate) fn kernel_memory(pids: &[u32]) -> Result<u64> {
    let output = Command::new("ss").args(["-tmnpHO"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let owners: Vec<_> = pids.iter().map(|pid| format!("pid={pid},")).collect();
    let ours = text
        .lines()
        .filter(|line| owners.iter().any(|owner| line.contains(owner)));
    Ok(ours.flat_map(socket_memory).sum())
}

/// Of a line that holds `skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)`: what is there to read, and to write.
fn socket_memory(line: &str) -> Option<u64> {
    let (_, fields) = line.split_once("skmem:(")?;
    let (fields, _) = fields.split_once(')')?;
    let counted = fields.split(',').flat_map(|field| {
        let number = field.strip_prefix(['r', 'w'])?;
        // "rb" is a limit, and no number.
        number.parse::<u64>().ok()
    });
    Some(counted.sum())
}

/// Sockets and files that these processes hold open.
pub(crate) fn open_files(pids: &[u32]) -> Result<usize> {
    let mut count = 0;
    for pid in pids {
        count += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    }
    Ok(count)
}

/// Waits until none of the processes' threads has anything to do: work that is late belongs to the sample too.
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
            // A thread may have ended since.
            if stat(&path.to_string_lossy()).is_ok_and(|fields| fields[0] != "S") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The fields behind the name, which may hold anything.
fn stat(path: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    let (_, fields) = text.rsplit_once(')').ok_or("the kernel's stat has no name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// Watches for strangers at work.
#[derive(Debug)]
pub(crate) struct Watch {
    ours: Vec<u32>,
    begun: Instant,
    busy: Duration,
    known: Duration,
}

impl Watch {
    /// From now on; `ours` are all processes that belong to the measurement.
    pub(crate) fn begin(ours: Vec<u32>) -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            busy: busy()?,
            known: cpu(&ours)?,
            ours,
        })
    }

    /// Whether others have used so much of the machine that what was measured may be wrong.
    pub(crate) fn was_disturbed(&self) -> Result<bool> {
        let busy = busy()?.saturating_sub(self.busy);
        let known = cpu(&self.ours)?.saturating_sub(self.known);
        Ok(busy.saturating_sub(known) > GRAIN + self.begun.elapsed().mul_f64(TOLERANCE))
    }
}

/// The time of all cores in which they were not idle; what the hypervisor gave to others is among it.
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
