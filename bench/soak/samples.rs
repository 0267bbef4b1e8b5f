//! The gateway's resource usage, sampled every few seconds.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::Result;
use crate::ledger::Count;
use crate::site::Site;
use testing::client::Curl;

const EVERY: Duration = Duration::from_secs(5);
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/soak.csv");

/// A sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Seconds since the clients started.
    pub(crate) at: f64,
    pub(crate) memory: u64,
    pub(crate) files: usize,
    pub(crate) threads: u64,
    /// Client connections.
    pub(crate) connections: u64,
    /// Idle connections to Incus.
    pub(crate) idle: u64,
    pub(crate) requests: u64,
    /// CPU time in seconds.
    pub(crate) cpu: f64,
    pub(crate) count: Count,
}

impl Sample {
    pub(crate) fn take(site: &Site, since: Instant) -> Self {
        let figures = Curl::get(format!("{}/metrics", site.gateway.metrics_url()));
        let figures = figures.send().map(|answer| answer.text()).unwrap_or_default();
        Self {
            at: since.elapsed().as_secs_f64(),
            memory: site.gateway.memory_now(),
            files: site.gateway.open_files(),
            threads: threads(site),
            connections: sum(&figures, "incus_gate_connections{"),
            idle: sum(&figures, "incus_gate_upstream_connections_idle "),
            requests: sum(&figures, "incus_gate_requests_total{"),
            cpu: cpu(site),
            count: site.ledger.total(),
        }
    }

    fn line(&self) -> String {
        let Self {
            at,
            memory,
            files,
            threads,
            connections,
            idle,
            requests,
            cpu,
            count,
        } = self;
        let Count { right, told, wrong } = count;
        format!("{at:.1},{memory},{files},{threads},{connections},{idle},{requests},{cpu:.2},{right},{told},{wrong}\n")
    }
}

/// Takes samples until the end. They are also written to a file, which can be read during the run.
pub(crate) fn take_all(site: &Site, since: Instant) -> Result<Vec<Sample>> {
    let mut file = File::create(FILE)?;
    file.write_all(b"seconds,memory,files,threads,connections,idle,requests,cpu,right,told,wrong\n")?;
    let mut samples = Vec::new();
    while !site.is_done() {
        let sample = Sample::take(site, since);
        file.write_all(sample.line().as_bytes())?;
        samples.push(sample);
        site.pause(EVERY);
    }
    Ok(samples)
}

/// Returns the sum of all values of a metric family.
fn sum(figures: &str, family: &str) -> u64 {
    let lines = figures.lines().filter(|line| line.starts_with(family));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

fn threads(site: &Site) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", site.gateway.pid()));
    tasks.map_or(0, |tasks| tasks.count() as u64)
}

/// Returns the CPU time, user and system, in seconds.
fn cpu(site: &Site) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.gateway.pid())).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
