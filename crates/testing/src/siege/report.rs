//! The effect of each attack on other clients, and whether it is within the bounds.

use std::fmt;
use std::time::Duration;

use super::attack::Attack;
use super::probe::Seen;
use super::site::WATCHDOG;

const MIB: f64 = 1_048_576.0;

/// The bounds for other clients. The watchdog's keep-alives are checked separately.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For an administrator's new connection and request.
    pub admin: Duration,
    /// For another stranger's request, and for `/healthz`.
    pub stranger: Duration,
    /// The percentile that is compared, and whether the result of plain lists is added to the bound.
    pub percentile: Percentile,
    /// Peak resident memory, in bytes.
    pub memory: u64,
    /// Log output in bytes per minute, plain lists included.
    pub log: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum Percentile {
    /// The 99th percentile, on a dedicated machine.
    P99,
    /// The median, on a shared machine. It may be as high as that of plain lists plus the bound.
    MedianBesidePlainLists,
}

/// The bounds on a dedicated machine.
pub const WHOLE: Bounds = Bounds {
    admin: Duration::from_millis(250),
    stranger: Duration::from_millis(500),
    percentile: Percentile::P99,
    memory: 150_000_000,
    log: 1_000_000.0,
};

/// The bounds on a machine that also runs other tests.
pub const SHORT: Bounds = Bounds {
    percentile: Percentile::MedianBesidePlainLists,
    ..WHOLE
};

/// The results of one attack.
#[derive(Debug)]
pub struct Row {
    pub attack: Attack,
    /// The number of attacking addresses.
    pub addresses: usize,
    /// The number of requests or connections.
    pub done: usize,
    /// The gateway's CPU usage, in cores.
    pub cpu: f64,
    /// Log output in bytes per minute.
    pub log: f64,
    /// Peak resident memory, in bytes.
    pub memory: u64,
    /// The maximum number of ranges in one request to Incus.
    pub ranges: usize,
    pub seen: Seen,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            admin,
            stranger,
            health,
            unfed,
        } = &self.seen;
        let ms = |time: Duration| time.as_millis();
        write!(
            f,
            "{:<28} {:>4} {:>7} {:>5.2} {:>6}/{:<6} {:>6}/{:<6} {:>7} {:>6.1} {:>7.1} {:>8.2}",
            self.attack.to_string(),
            self.addresses,
            self.done,
            self.cpu,
            ms(admin.percentile(50)),
            ms(admin.p99()),
            ms(stranger.percentile(50)),
            ms(stranger.p99()),
            ms(health.p99()),
            unfed.as_secs_f64(),
            self.memory as f64 / 1e6,
            self.log / MIB,
        )
    }
}

/// The results of all attacks.
#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

impl Report {
    pub(super) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Returns the table, followed by every violated bound.
    pub fn text(&self, bounds: &Bounds) -> String {
        let head = format!(
            "{:<28} {:>4} {:>7} {:>5} {:>13} {:>13} {:>7} {:>6} {:>7} {:>8}",
            "attack", "from", "done", "cores", "admin ms", "stranger ms", "health", "unfed", "memory", "log"
        );
        let units = format!(
            "{:<28} {:>4} {:>7} {:>5} {:>13} {:>13} {:>7} {:>6} {:>7} {:>8}",
            "", "", "", "", "p50/p99", "p50/p99", "ms", "s", "MB", "MiB/min"
        );
        let rows = self.0.iter().map(Row::to_string);
        let broken = self
            .broken(bounds)
            .into_iter()
            .map(|broken| format!("BROKEN: {broken}"));
        let lines: Vec<_> = [head, units].into_iter().chain(rows).chain(broken).collect();
        lines.join("\n")
    }

    /// Returns every violated bound.
    pub fn broken(&self, bounds: &Bounds) -> Vec<String> {
        self.0.iter().flat_map(|row| self.broken_by(row, bounds)).collect()
    }

    fn broken_by(&self, row: &Row, bounds: &Bounds) -> Vec<String> {
        let is_plain = |other: &&Row| other.attack == Attack::PlainLists && other.addresses == row.addresses;
        let plain = self.0.iter().find(is_plain).expect("plain lists come first");
        let name = format!("{} from {}", row.attack, row.addresses);
        let mut broken = Vec::new();
        let mut within = |holds: bool, what: &str, is: String, bound: String| {
            if !holds {
                broken.push(format!("{name}: {what} is {is}, and may be {bound}"));
            }
        };
        let clients = [
            ("an admin's time", &row.seen.admin, &plain.seen.admin, bounds.admin),
            (
                "a stranger's time",
                &row.seen.stranger,
                &plain.seen.stranger,
                bounds.stranger,
            ),
            (
                "the time of /healthz",
                &row.seen.health,
                &plain.seen.health,
                bounds.stranger,
            ),
        ];
        for (what, times, plain, bound) in clients {
            let (is, bound) = match bounds.percentile {
                Percentile::P99 => (times.p99(), bound),
                Percentile::MedianBesidePlainLists => (times.percentile(50), plain.percentile(50) + bound),
            };
            within(is <= bound, what, format!("{is:.3?}"), format!("{bound:.3?}"));
        }
        let unfed = row.seen.unfed;
        within(
            unfed <= WATCHDOG,
            "the watchdog's longest wait",
            format!("{unfed:.1?}"),
            format!("{WATCHDOG:?}"),
        );
        let memory = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        within(
            row.memory <= bounds.memory,
            "memory",
            memory(row.memory),
            memory(bounds.memory),
        );
        let rate = |bytes: f64| format!("{:.2} MB/min", bytes / 1e6);
        within(
            row.log <= bounds.log,
            "the log's growth",
            rate(row.log),
            rate(bounds.log),
        );
        within(
            row.ranges <= 1,
            "what goes up to Incus",
            format!("{} ranges", row.ranges),
            "one".to_owned(),
        );
        broken
    }
}
