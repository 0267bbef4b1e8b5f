//! Attacks that a stranger can make within the limits, and what everybody else notices of them.
//!
//! ```text
//!  attackers (nice 15) ──PROXY──▶ ┌─────────────┐
//!  an admin, a stranger ─PROXY──▶ │ the gateway │ ──TLS──▶ a scripted Incus with 5,000 images
//!  /healthz ─────────────────────▶ └─────────────┘
//! ```
//!
//! [`attack`] is what attackers do, each from an address of its own that the PROXY protocol announces. [`site`] is the
//! gateway with all that it needs, a fresh one for each attack. [`probe`] measures what others get meanwhile, and
//! [`report`] judges that. `make siege` runs all of it, `tests/siege.rs` a shortened form.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test and a benchmark share it, and nothing else does"
)]

pub mod attack;
pub mod probe;
pub mod report;
pub mod site;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub use self::attack::Attack;
pub use self::report::{Report, Row};
use self::site::{Site, Upstream};

/// Runs each attack from so many addresses for so long, plain lists first.
pub fn run(gateway: &Path, attacks: &[Attack], addresses: &[usize], seconds: u64) -> Report {
    let upstream = Upstream::start();
    let mut report = Report::default();
    for &count in addresses {
        for &attack in [Attack::PlainLists].iter().chain(attacks) {
            let row = one(
                gateway,
                &upstream,
                attack,
                count,
                Duration::from_secs(seconds * attack.length()),
            );
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
        ranges: upstream.ranges(),
        seen,
    }
}
