//! Attacks that a stranger can make within the limits, and their effect on other clients.
//!
//! ```text
//!  attackers (nice 15) ──PROXY──▶ ┌─────────────┐
//!  an admin, a stranger ─PROXY──▶ │ the gateway │ ──TLS──▶ a scripted Incus with many images
//!  /healthz ─────────────────────▶ └─────────────┘
//! ```
//!
//! [`attack`] contains the attacks; each attacker has its own address, announced in the PROXY protocol. [`site`] is the
//! gateway with its dependencies, started for each attack. [`probe`] measures the service that other clients get, and
//! [`report`] evaluates it. `make siege` runs everything, `tests/siege.rs` a shortened form.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test and a benchmark share it, each uses a part, and nothing else does"
)]

pub mod attack;
pub mod probe;
pub mod report;
pub mod site;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use self::attack::Attack;
pub use self::report::{Report, Row};
use self::site::{Site, Upstream};

/// The attacks to run, and their target.
#[derive(Debug)]
pub struct Plan {
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// The number of images in Incus.
    pub images: usize,
    pub attacks: Vec<Attack>,
    /// Numbers of attacking addresses. Each number is a separate run.
    pub addresses: Vec<usize>,
    /// The duration of an attack, in seconds. Some attacks run longer.
    pub seconds: u64,
}

/// Runs each attack, plain lists first.
pub fn run(plan: &Plan) -> Report {
    let upstream = Upstream::start(plan.images);
    let mut report = Report::default();
    for &count in &plan.addresses {
        for &attack in [Attack::PlainLists].iter().chain(&plan.attacks) {
            let time = Duration::from_secs(plan.seconds * attack.length());
            let row = one(&plan.gateway, &upstream, attack, count, time);
            eprintln!("{row}");
            report.add(row);
        }
    }
    report
}

fn one(gateway: &Path, upstream: &Upstream, attack: Attack, addresses: usize, time: Duration) -> Row {
    upstream.is_changing(attack.needs_changes());
    upstream.forget_ranges();
    let site = Site::start(gateway, upstream);
    let (cpu, log, begun) = (site.cpu(), site.log_size(), Instant::now());
    let until = begun + time;
    let (seen, done) = thread::scope(|scope| {
        let attackers: Vec<_> = (0..addresses)
            .map(|number| {
                let site = &site;
                scope.spawn(move || {
                    // Applies to this thread only: the gateway and the probes have priority.
                    let _ = rustix::process::nice(15);
                    attack.run(site, number, until)
                })
            })
            .collect();
        let seen = probe::all(&site, until);
        let done = attackers
            .into_iter()
            .map(|attacker| attacker.join().expect("an attacker does not panic"))
            .sum();
        (seen, done)
    });
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    Row {
        attack,
        addresses,
        done,
        cpu: (site.cpu() - cpu) / begun.elapsed().as_secs_f64(),
        log: (site.log_size() - log) as f64 / minutes,
        memory: site.gateway.memory_peak(),
        // Requests of the previous attack may still be in flight.
        ranges: if attack == Attack::Ranges { upstream.ranges() } else { 0 },
        seen,
    }
}
