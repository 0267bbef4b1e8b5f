//! The verdict: whether all outcomes were right, and nothing has grown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::Fault;
use crate::ledger::{Count, Entry};
use crate::samples::Sample;
use crate::site::Site;

/// The gateway's log, for the analysis of errors.
const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/soak.log");
/// The time for the resources of the last clients and idle connections to Incus to be released.
const SETTLING: Duration = Duration::from_secs(120);
/// The accepted growth, from the allocator and from current activity.
const NOISE: f64 = 0.10;
const NOISE_BYTES: f64 = (4 << 20) as f64;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) begun: Instant,
    pub(crate) before: Sample,
    pub(crate) samples: Vec<Sample>,
    pub(crate) after: Sample,
    pub(crate) faults: Vec<Entry>,
    counts: BTreeMap<&'static str, Count>,
    wrongs: Vec<String>,
}

impl Verdict {
    /// Waits until the gateway is idle, then stops it and judges the run.
    pub(crate) fn of(site: &Site, before: Sample, samples: Vec<Sample>, begun: Instant, seed: u64) -> Self {
        let deadline = Instant::now() + SETTLING;
        let mut after = Sample::take(site, begun);
        while (after.connections > 0 || after.files > before.files) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(500));
            after = Sample::take(site, begun);
        }
        let mut verdict = Self {
            seed,
            begun,
            before,
            samples,
            after,
            faults: site.ledger.faults(),
            counts: site.ledger.counts(),
            wrongs: site.ledger.wrongs(),
        };
        verdict.judge_what_is_held();
        verdict.judge_log(site);
        verdict
    }

    pub(crate) fn is_good(&self) -> bool {
        self.wrongs.is_empty()
    }

    pub(crate) fn wrongs(&self) -> usize {
        self.wrongs.len()
    }

    fn judge_what_is_held(&mut self) {
        let mut expect = |is_right: bool, otherwise: String| {
            if !is_right {
                self.wrongs.push(otherwise);
            }
        };
        let (before, after) = (&self.before, &self.after);
        expect(
            after.connections == 0,
            format!("{} connections are left", after.connections),
        );
        expect(
            after.files <= before.files,
            format!("{} files are open, not {}", after.files, before.files),
        );
        expect(
            after.threads <= before.threads,
            format!("{} threads, not {}", after.threads, before.threads),
        );
        let [early, late] = [sixth(&self.samples, 1), sixth(&self.samples, 5)];
        for (what, of, noise) in [
            (
                "memory",
                (|sample| sample.memory as f64) as fn(&Sample) -> f64,
                NOISE_BYTES,
            ),
            ("open files", |sample| sample.files as f64, 10.0),
            ("threads", |sample| sample.threads as f64, 0.0),
        ] {
            let (early, late) = (median(early, of), median(late, of));
            expect(
                late <= early + (early * NOISE).max(noise) || noise == 0.0 && late <= early,
                format!("{what} grew from {early} to {late}"),
            );
        }
    }

    /// Stops the gateway and checks its log.
    fn judge_log(&mut self, site: &Site) {
        site.gateway.signal("TERM");
        let status = site.gateway.exit_status();
        if !status.success() {
            self.wrongs.push(format!("the gateway ended with {status}"));
        }
        let log = site.gateway.log();
        if let Err(error) = fs::write(LOG, log.join("\n")) {
            eprintln!("{LOG}: {error}");
        }
        let bad = |line: &&String| line.contains("panicked") || line.contains("lines of the log are lost");
        self.wrongs.extend(log.iter().filter(bad).cloned());
        let told = log.iter().filter(|line| line.contains(" incus_gate::access: ")).count() as u64;
        if told != self.after.requests {
            self.wrongs
                .push(format!("{} requests, {told} records of them", self.after.requests));
        }
    }

    /// Formats the verdict as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let [early, late] = [sixth(&self.samples, 1), sixth(&self.samples, 5)];
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
        let of_all = |of: fn(&Sample) -> f64| self.samples.iter().map(of).fold(0.0, f64::max);
        let minutes = self.samples.last().map_or(0.0, |sample| sample.at / 60.0);
        let _ = writeln!(
            text,
            "{minutes:.0} minutes, seed {}: {} requests, {} faults, {:.0} s of CPU time.\n",
            self.seed,
            self.after.requests,
            self.faults.len(),
            self.after.cpu - self.before.cpu
        );
        let _ = writeln!(
            text,
            "| held | before | second sixth | last sixth | most | when all had gone |\n|---|---|---|---|---|---|"
        );
        let memory: fn(&Sample) -> f64 = |sample| sample.memory as f64;
        let _ = writeln!(
            text,
            "| memory | {} | {} | {} | {} | {} |",
            mib(memory(&self.before)),
            mib(median(early, memory)),
            mib(median(late, memory)),
            mib(of_all(memory)),
            mib(memory(&self.after))
        );
        for (what, of) in [
            ("open files", (|sample| sample.files as f64) as fn(&Sample) -> f64),
            ("threads", |sample| sample.threads as f64),
            ("connections of clients", |sample| sample.connections as f64),
            ("idle connections to Incus", |sample| sample.idle as f64),
        ] {
            let _ = writeln!(
                text,
                "| {what} | {} | {} | {} | {} | {} |",
                of(&self.before),
                median(early, of),
                median(late, of),
                of_all(of),
                of(&self.after)
            );
        }
        let _ = writeln!(
            text,
            "\n| what clients did | right | told of an error | wrong |\n|---|---|---|---|"
        );
        for (what, Count { right, told, wrong }) in &self.counts {
            let _ = writeln!(text, "| {what} | {right} | {told} | {wrong} |");
        }
        let _ = writeln!(
            text,
            "\n| fault | how often | until all were served again: median, longest |\n|---|---|---|"
        );
        for fault in Fault::ALL {
            let mut times: Vec<f64> = self
                .faults
                .iter()
                .filter(|entry| entry.fault == fault)
                .filter_map(time)
                .collect();
            times.sort_by(f64::total_cmp);
            if let Some(longest) = times.last() {
                let _ = writeln!(
                    text,
                    "| {fault} | {} | {:.1} s, {longest:.1} s |",
                    times.len(),
                    times[times.len() / 2]
                );
            }
        }
        let _ = writeln!(text, "\nWrong: {}", self.wrongs.len());
        for wrong in &self.wrongs {
            let _ = writeln!(text, "- {wrong}");
        }
        text
    }
}

/// Returns the recovery time, measured from the end of the cause.
fn time(entry: &Entry) -> Option<f64> {
    Some((entry.over? - entry.ended?).as_secs_f64())
}

fn sixth(samples: &[Sample], number: usize) -> &[Sample] {
    let at = |number: usize| samples.len() * number / 6;
    &samples[at(number)..at(number + 1)]
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut numbers: Vec<f64> = samples.iter().map(of).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
