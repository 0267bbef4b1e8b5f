//! Hours of mixed clients with random faults: `make soak MINUTES=60`.
//!
//! ```text
//!  real incus clients, curl, bad clients ──TLS──▶ the gateway ──TLS──▶ a real Incus
//!                                         ▲                    ▲
//!                                 cut, lossy, slow     killed, stopped, restarted, replaced, …
//! ```
//!
//! # The course of a run
//! 1. [`site`] starts everything in a separate network namespace, so that network faults affect nothing else.
//! 2. [`clients`] perform actions, one after the other, and verify every byte of the responses. [`faults`] occur at random,
//!    with calm periods in between. [`dice`] are seeded; the seed is printed.
//! 3. The [`ledger`] judges each outcome: right; an error that was reported during a fault; anything else is wrong.
//! 4. [`samples`] record the gateway's resources. When all clients have ended, the [`verdict`] decides whether any of them
//!    leaked, and [`chart`] draws the run.

mod chart;
mod clients;
mod dice;
mod faults;
mod ledger;
mod samples;
mod site;
mod verdict;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::dice::Dice;
use crate::faults::Fault;
use crate::samples::Sample;
use crate::site::Site;
use crate::verdict::Verdict;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Environment variable that marks a process that already runs inside the network.
const INSIDE: &str = "INCUS_GATE_SOAK_NETWORK";

/// Runs mixed clients against the gateway during random faults, and reports what is wrong.
#[derive(Debug, Parser)]
#[command(name = "soak")]
pub(crate) struct Arguments {
    /// The duration
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// The seed, to repeat a run; the scheduling of the clients remains random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Another binary of the gateway
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Only the faults with this in their name; can be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The maximum calm period between two faults, in seconds
    #[arg(long, value_name = "N", default_value_t = 50)]
    calm: u64,
    /// Draw `docs/soak.svg`
    #[arg(long)]
    chart: bool,
    /// Ignored: Cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments) -> Result<Verdict> {
    enter_network()?;
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let is_wanted = |fault: &Fault| {
        arguments.only.is_empty()
            || arguments
                .only
                .iter()
                .any(|only| fault.to_string().contains(only.as_str()))
    };
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(is_wanted).collect();
    if faults.is_empty() {
        return Err("no fault has such a name".into());
    }
    eprintln!("{} minutes, seed {seed}", arguments.minutes);
    let gateway = arguments
        .gateway
        .clone()
        .unwrap_or_else(|| testing::gateway::binary().into());
    let site = Arc::new(Site::start(&gateway.canonicalize()?));
    end_on_signal(Arc::downgrade(&site))?;

    let begun = Instant::now();
    let before = Sample::take(&site, begun);
    let samples = thread::scope(|scope| {
        let samples = scope.spawn(|| samples::take_all(&site, begun));
        clients::send(&site, scope, seed);
        scope.spawn(|| faults::happen(&site, &faults, arguments.calm, Dice::of(seed, 500)));
        site.pause(Duration::from_secs(arguments.minutes * 60));
        site.end();
        samples.join().map_err(|_| "the samples broke off")?
    })?;
    let verdict = Verdict::of(&site, before, samples, begun, seed);
    println!("{}", verdict.text());
    if arguments.chart {
        chart::write(&verdict)?;
    }
    Ok(verdict)
}

/// Enters a private network, so that its faults affect no other process.
fn enter_network() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        testing::run::run(Command::new("ip").args(["link", "set", "lo", "up"])).ok();
        return Ok(());
    }
    let mut again = Command::new("unshare");
    again.arg("--net").arg(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec().into())
}

/// Ends the run cleanly on a signal, so that all processes are stopped. The reference is weak, so that it does not keep the
/// site alive after the last client.
fn end_on_signal(site: Weak<Site>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        if let Some(site) = site.upgrade() {
            site.end();
        }
    });
    Ok(())
}
