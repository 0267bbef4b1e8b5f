//! Compares the gateway with Nginx on the same work in a single run: `make bench`.
//!
//! ```text
//!  core 1: client ──TLS──▶ core 0: the gateway │ Nginx, tuned │ Nginx as in the guide │ the floor ──TLS──▶ core 1: site
//! ```
//!
//! # From the work to a number
//! 1. [`site`] is the upstream of all contenders: a fast server that responds like Incus. [`contenders`] are the measured
//!    proxies. All run at the same time, each as a [`process`] on cores that [`machine`] selects.
//! 2. [`verify`] sends every request once and checks every byte of the responses.
//! 3. [`plan`] lists the work. In [`rounds`], every contender does it, one after the other, in a different order each time. A
//!    round during which other processes used the machine is repeated.
//! 4. A sample is taken: of CPU time by [`cost`], with the [`load`] of a [`client`]; of [`latency`]; of [`memory`]; along
//!    [`curves`]. [`measure`] reads the resource usage of a process from the kernel.
//! 5. All samples of one quantity form a [`comparison`]: the median of the per-round ratios, with its quartiles
//!    ([`statistics`]). [`report`] makes tables of them, [`chart`] a picture.
//!
//! Everything uses the loopback interface and has a time limit. All started processes are stopped at the end, also after
//! Ctrl-C.

// Large futures slow down only the measuring code, which does not matter.
#![allow(clippy::large_futures)]

mod chart;
mod client;
mod comparison;
mod contenders;
mod cost;
mod curves;
mod latency;
mod load;
mod machine;
mod measure;
mod memory;
mod plan;
mod process;
mod report;
mod rounds;
mod site;
mod statistics;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Parser, Subcommand};
use edge::worker;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::contenders::floor::Loop;
use crate::contenders::store_floor::FileServer;
use crate::contenders::{Contender, Kind};
use crate::machine::Cores;
use crate::memory::Probe;
use crate::report::Results;
use crate::rounds::{Field, Patience};
use crate::site::Site;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The gateway's allocator, so that the floor is comparable.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const ROUNDS_OF_CURVES: usize = 3;

/// Compares the gateway with Nginx on this machine.
#[derive(Debug, Parser)]
#[command(name = "side_by_side")]
struct Arguments {
    /// Run only the measurements with this in their name; can be repeated. The results are printed, but not saved
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The number of rounds
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Another binary of the gateway; can be repeated to compare several
    #[arg(long, value_name = "PATH")]
    gateway: Vec<PathBuf>,
    /// Also measure HAProxy and Caddy
    #[arg(long)]
    all: bool,
    /// Ignored: Cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Parts of this program that run in a separate process.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Floor(Loop),
    #[command(hide = true)]
    StoreFloor(FileServer),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.part {
        Some(Part::Floor(endless)) => be_the_floor(endless),
        Some(Part::StoreFloor(endless)) => worker::runtime()
            .map_err(Error::from)
            .and_then(|runtime| runtime.block_on(endless.run())),
        None => bench(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_the_floor(endless: &Loop) -> Result<()> {
    worker::runtime()?.block_on(endless.run())
}

fn bench(arguments: &Arguments) -> Result<()> {
    machine::prepare()?;
    // Started before this process moves to one core, so that the thread does not move with it.
    let _noticing = notice_signals()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Results::new(kinds(arguments)?);
    let ended = runtime.block_on(measure(arguments, &mut results));
    let setting = format!(
        "{}; {} rounds; {}.",
        machine::description(),
        arguments.rounds,
        contenders::versions(&results.kinds).join(", ")
    );
    println!("{}", results.text(&setting));
    ended?;
    if arguments.only.is_empty() && arguments.gateway.is_empty() {
        results.write(&setting)?;
        chart::write(&results, &setting)?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, results: &mut Results) -> Result<()> {
    let begun = Instant::now();
    let patience = Patience::new();
    let kinds = results.kinds.clone();
    let is_wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| name.contains(only));
    let (apart, shared) = Cores::apart_and_shared()?;

    machine::move_to(&apart.others)?;
    let field = start(&apart, &kinds, &patience)?;
    let items = plan::items(&field.site)?;
    let items: Vec<_> = items.into_iter().filter(|item| is_wanted(&item.name)).collect();
    verify::all(&field, &items).await?;
    let section = results.begin("CPU time, with the proxy on a core of its own", "");
    cost::compare(&field, &items, arguments.rounds, section).await?;
    let settings: Vec<_> = latency::SETTINGS
        .into_iter()
        .filter(|setting| is_wanted(setting.name))
        .collect();
    let section = results.begin("Latency of small answers", "");
    latency::compare(&field, &settings, arguments.rounds, section).await?;
    drop(field);

    stored(arguments, &apart, is_wanted, results, &patience).await?;
    in_front_of_incus(arguments, &apart, is_wanted, results, &patience).await?;

    let probes = [Probe::Idle, Probe::Stalled, Probe::Binary];
    let site = Site::of_files(&apart.others, &[plan::SMALL])?;
    let section = results.begin("Memory, and the size of the binary", "");
    memory::compare(&probes, &site, &apart, &kinds, arguments.rounds, is_wanted, section).await?;
    drop(site);

    let pair = &kinds[..2];
    if is_wanted(curves::CONNECTIONS) {
        let rounds = arguments.rounds.min(ROUNDS_OF_CURVES);
        results
            .curves
            .push(curves::over_connections(&apart, pair, rounds, &patience).await?);
    }
    if is_wanted(curves::SIZES) {
        results.curves.extend(curves::over_sizes(&apart, pair).await?);
    }
    if is_wanted(curves::IMAGES) {
        results.curves.push(curves::over_images(&apart, pair).await?);
    }

    machine::move_to(&shared.others)?;
    let field = start(&shared, &kinds, &patience)?;
    let items = plan::items(&field.site)?
        .into_iter()
        .filter_map(plan::item::Item::on_both_cores);
    let items: Vec<_> = items.filter(|item| is_wanted(&item.name)).collect();
    let section = results.begin("CPU time, with everybody on both cores", ", on both cores");
    cost::compare(&field, &items, arguments.rounds, section).await?;
    let (all, again) = (begun.elapsed().as_secs(), patience.spent().as_secs());
    progress(&format!("done in {all} s, of which {again} s for rounds done again"));
    Ok(())
}

/// Measures downloads from the gateway's store, beside Nginx with a cache.
async fn stored(
    arguments: &Arguments,
    cores: &Cores,
    is_wanted: impl Fn(&str) -> bool,
    results: &mut Results,
    patience: &Patience,
) -> Result<()> {
    let names = [
        "stored-h1-1",
        "stored-h1-8",
        "stored-h2-1",
        "latency-beside-stored",
        "latency-beside-cold",
        "stored-memory-stalled",
    ];
    let Some(Kind::Gateway(binary)) = results.gateway().cloned().filter(|_| names.into_iter().any(&is_wanted)) else {
        return Ok(());
    };
    let kinds = [
        Kind::NginxCaching,
        Kind::Gateway(binary.clone()),
        Kind::GatewayWithStore(binary),
        Kind::StoreFloor,
    ];
    let site = Site::of_files(&cores.others, &plan::CATALOGUES[..1])?;
    let all = plan::stored(&site)?;
    let settings = latency::STORED_SETTINGS.into_iter();
    let settings: Vec<_> = settings.filter(|setting| is_wanted(setting.name)).collect();
    let items: Vec<_> = all.iter().filter(|item| is_wanted(&item.name)).cloned().collect();
    let contenders: Result<Vec<_>> = kinds
        .iter()
        .map(|kind| Contender::start(kind, &site, &cores.proxies))
        .collect();
    let field = Field::new(site, contenders?, patience);
    // This also fills the store and the cache.
    verify::all(&field, &all).await?;
    let section = results.begin_stored("Downloads from the store, and small answers beside them");
    cost::compare(&field, &items, arguments.rounds, section).await?;
    latency::compare(&field, &settings, arguments.rounds, section).await?;
    let Field { site, .. } = field;
    let kinds = [kinds[0].clone(), kinds[2].clone()];
    memory::compare(
        &[Probe::StalledStored],
        &site,
        cores,
        &kinds,
        arguments.rounds,
        is_wanted,
        section,
    )
    .await
}

/// Measures in front of a real Incus: the items for which it is fast enough, and the start time.
async fn in_front_of_incus(
    arguments: &Arguments,
    cores: &Cores,
    is_wanted: impl Fn(&str) -> bool + Copy,
    results: &mut Results,
    patience: &Patience,
) -> Result<()> {
    let names = plan::IN_FRONT_OF_INCUS.map(|(_, name)| name);
    if !names.into_iter().chain([memory::START]).any(is_wanted) {
        return Ok(());
    }
    progress("starting a real Incus");
    let kinds = results.kinds.clone();
    let site = Site::of_incus()?;
    let contenders: Result<Vec<_>> = kinds
        .iter()
        .filter(|kind| **kind != Kind::NginxAsInTheGuide)
        .chain([&Kind::Floor])
        .map(|kind| Contender::start(kind, &site, &cores.proxies))
        .collect();
    let field = Field::new(site, contenders?, patience);
    let items = plan::in_front_of_incus(&field.site)?;
    let items: Vec<_> = items.into_iter().filter(|item| is_wanted(&item.name)).collect();
    verify::all(&field, &items).await?;
    let section = results.begin("In front of a real Incus", ", real Incus");
    cost::compare(&field, &items, arguments.rounds, section).await?;
    let Field { site, .. } = field;
    memory::compare(
        &[Probe::Start],
        &site,
        cores,
        &kinds,
        arguments.rounds,
        is_wanted,
        section,
    )
    .await
}

/// Returns the contenders, tuned Nginx and the gateway first.
fn kinds(arguments: &Arguments) -> Result<Vec<Kind>> {
    let mut kinds = vec![Kind::NginxTuned];
    match arguments.gateway.is_empty() {
        true => kinds.push(Kind::Gateway(testing::gateway::binary().into())),
        false => {
            for path in &arguments.gateway {
                kinds.push(Kind::Gateway(path.canonicalize()?));
            }
        }
    }
    kinds.push(Kind::NginxAsInTheGuide);
    if arguments.all {
        kinds.extend([Kind::Haproxy, Kind::Caddy]);
    }
    Ok(kinds)
}

fn start(cores: &Cores, kinds: &[Kind], patience: &Patience) -> Result<Field> {
    let site = Site::of_files(&cores.others, &plan::CATALOGUES)?;
    let contenders: Result<Vec<_>> = kinds
        .iter()
        .chain([&Kind::Floor])
        .map(|kind| Contender::start(kind, &site, &cores.proxies))
        .collect();
    Ok(Field::new(site, contenders?, patience))
}

/// Prints the progress.
pub(crate) fn progress(what: &str) {
    eprintln!("{what}");
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns whether a signal has asked the program to stop.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

pub(crate) fn give_up_if_interrupted() -> Result<()> {
    match is_interrupted() {
        true => Err("interrupted".into()),
        false => Ok(()),
    }
}

/// Records signals in a flag. The current work then stops, and all started processes are stopped cleanly.
fn notice_signals() -> Result<Runtime> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signal = signal(kind)?;
        runtime.spawn(async move {
            signal.recv().await;
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    }
    drop(entered);
    Ok(runtime)
}
