//! Attacks that a stranger can make within the limits, and what everybody else notices of them.
//!
//! ```text
//!  attackers (nice 15) ──PROXY──▶ ┌─────────────┐
//!  an admin, a stranger ─PROXY──▶ │ the gateway │ ──TLS──▶ a scripted Incus with many images
//!  /healthz ─────────────────────▶ └─────────────┘
//! ```
//!
//! [`attack`] is what attackers do, each from an address of its own that the PROXY protocol announces. [`site`] is the
//! gateway with all that it needs, a fresh one for each attack. [`probe`] measures what others get meanwhile, and
//! [`report`] judges that. `make siege` runs all of it, `tests/siege.rs` a shortened form.

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

/// What to run, against what.
#[derive(Debug)]
pub struct Plan {
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// How many images Incus has.
    pub images: usize,
    pub attacks: Vec<Attack>,
    /// From how many addresses, each number a run of its own.
    pub addresses: Vec<usize>,
    /// How long an attack takes, in seconds; some need longer.
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
                    // Of this thread alone: the gateway and whoever measures it come first.
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
        // Those of the attack before may still be on their way.
        ranges: if attack == Attack::Ranges { upstream.ranges() } else { 0 },
        seen,
    }
}
