//! The expected costs and their bounds.

use std::fmt;

use Measure::{Allocations, BytesCopied, Instructions, SystemCalls};

/// A cost that is measured per request or per MiB of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Measure {
    /// Instructions of Rust code in the debug build of `make test`; a release build has fewer.
    Instructions,
    /// Calls of malloc and similar functions.
    Allocations,
    SystemCalls,
    /// Bytes copied by memcpy and similar functions, per byte of a body.
    BytesCopied,
}

/// The expected cost of one kind of work.
#[derive(Debug)]
pub(crate) struct Cost {
    work: &'static str,
    /// Measured values.
    figures: &'static [(Measure, f64)],
    /// The reason for these values.
    why: &'static str,
}

/// `cargo test --test cost -- --nocapture` prints the current values.
const COSTS: &[Cost] = &[
    Cost {
        work: "/1.0 over HTTP/1.1",
        figures: &[(Instructions, 184_000.0), (Allocations, 11.0), (SystemCalls, 3.2)],
        why: "the answer is there, in one piece, before anybody asks: one read, one write",
    },
    Cost {
        work: "/1.0 over HTTP/1.1, recorded",
        figures: &[(Instructions, 267_000.0), (Allocations, 13.0), (SystemCalls, 5.0)],
        why: "a record is formatted once, where it has room already, and many are written at once: a lone one costs a wake-up",
    },
    Cost {
        work: "/1.0 over HTTP/2",
        figures: &[(Instructions, 312_000.0), (Allocations, 10.0), (SystemCalls, 3.2)],
        why: "HTTP/2 adds its frames and a task for each stream, and the answer is the same",
    },
    Cost {
        work: "/1.0 from Incus, for an admin",
        figures: &[(Instructions, 1_093_000.0), (Allocations, 44.0), (SystemCalls, 9.3)],
        why: "the connection to Incus is kept and used again",
    },
    Cost {
        work: "/1.0 over a new connection",
        figures: &[(Instructions, 1_914_000.0), (Allocations, 149.0), (SystemCalls, 23.0)],
        why: "the handshake is rustls's, and what it shows to clients is made when the configuration is read",
    },
    Cost {
        work: "the list of one image",
        figures: &[(Instructions, 169_000.0), (Allocations, 13.1), (SystemCalls, 3.2)],
        why: "the list is there, in one piece, before anybody asks",
    },
    Cost {
        work: "the list of 201 images",
        figures: &[(Instructions, 271_000.0), (Allocations, 20.2), (SystemCalls, 6.8)],
        why: "no image is looked at: a longer list is more bytes to encrypt, in more writes if its reader is slow",
    },
    Cost {
        work: "the list of 201 images, compressed",
        figures: &[(Instructions, 188_000.0), (Allocations, 13.1), (SystemCalls, 3.2)],
        why: "it is compressed once for everybody",
    },
    Cost {
        work: "the list of 201 images, unchanged",
        figures: &[(Instructions, 179_000.0), (Allocations, 13.1), (SystemCalls, 3.2)],
        why: "304 has no body: nothing of it grows with the list",
    },
    Cost {
        work: "a MiB down over HTTP/1.1",
        figures: &[(Instructions, 3_763_000.0), (Allocations, 180.0), (SystemCalls, 102.5)],
        why: "what Incus sends is handed on as it comes, by the task that answers the client",
    },
    Cost {
        work: "a MiB down over HTTP/2",
        figures: &[(Instructions, 6_958_000.0), (Allocations, 302.0), (SystemCalls, 156.5)],
        why: "HTTP/2 adds its frames, of 16 KiB each, to what HTTP/1.1 costs",
    },
    Cost {
        work: "a MiB up",
        figures: &[(Instructions, 3_900_000.0), (Allocations, 165.0), (SystemCalls, 105.0)],
        why: "what the client sends is handed on as it comes, in larger or smaller pieces",
    },
    Cost {
        work: "a byte down over HTTP/1.1",
        figures: &[(BytesCopied, 4.1)],
        why: "rustls and hyper copy it from buffer to buffer, and we do not",
    },
    Cost {
        work: "a byte down over HTTP/2",
        figures: &[(BytesCopied, 5.3)],
        why: "rustls, hyper and h2 copy it from buffer to buffer, and we do not",
    },
    Cost {
        work: "a byte up",
        figures: &[(BytesCopied, 4.1)],
        why: "rustls and hyper copy it from buffer to buffer, and we do not",
    },
];

impl Measure {
    /// Returns the largest value that passes: doubled costs fail, and small differences between versions of dependencies
    /// pass. No version copies half of all bytes once more by chance.
    fn bound(self, measured: f64) -> f64 {
        match self {
            BytesCopied => measured + 0.5,
            Instructions | Allocations | SystemCalls => measured * 1.5,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Instructions => "Instructions",
            Allocations => "Allocations",
            SystemCalls => "SystemCalls",
            BytesCopied => "BytesCopied",
        })
    }
}

/// The measured cost of one kind of work.
#[derive(Clone, Debug)]
pub(crate) struct Figures(Vec<(Measure, f64)>);

impl Figures {
    pub(crate) fn new(figures: &[(Measure, f64)]) -> Self {
        Self(figures.to_vec())
    }

    /// Returns the cost per unit.
    pub(crate) fn per(self, units: usize) -> Self {
        let divided = self
            .0
            .into_iter()
            .map(|(measure, count)| (measure, count / units as f64));
        Self(divided.collect())
    }

    /// Returns the lower value of each measure.
    pub(crate) fn lower(self, other: Self) -> Self {
        let pairs = self.0.into_iter().zip(other.0);
        Self(
            pairs
                .map(|((measure, one), (_, other))| (measure, one.min(other)))
                .collect(),
        )
    }
}

/// Compares the measured values with the table.
#[derive(Debug, Default)]
pub(crate) struct CostReport {
    faults: Vec<String>,
}

impl CostReport {
    /// Prints the measured values, and records those that exceed their bound or are not in the table.
    pub(crate) fn add(&mut self, work: &str, Figures(figures): Figures) {
        let cost = COSTS.iter().find(|cost| cost.work == work);
        for (measure, now) in figures {
            println!("{work:<36} {measure:<12} {now:>10.1}");
            let known = cost.and_then(|cost| Some((cost, cost.figure(measure)?)));
            match known {
                Some((cost, then)) if now < then / 2.0 => self.faults.push(below_bound(cost, measure, then, now)),
                Some((cost, then)) if now > measure.bound(then) => {
                    self.faults.push(above_bound(cost, measure, then, now));
                }
                Some(_) => {}
                None => self
                    .faults
                    .push(format!("{work}: {measure} has no figure in the table; it is {now:.1}")),
            }
        }
    }

    /// Panics if any value was out of bounds.
    #[track_caller]
    pub(crate) fn assert_within_bounds(self) {
        assert!(self.faults.is_empty(), "\n{}\n", self.faults.join("\n"));
    }
}

impl Cost {
    fn figure(&self, measure: Measure) -> Option<f64> {
        let found = self.figures.iter().find(|(other, _)| *other == measure);
        found.map(|(_, figure)| *figure)
    }
}

fn above_bound(cost: &Cost, measure: Measure, then: f64, now: f64) -> String {
    format!(
        "{}: {measure} were {then:.1}, may be {:.1}, are {now:.1}. It should cost no more because {}. Mend it; or, where it is \
         worth that, write the new figure and the reason into tests/cost/table.rs",
        cost.work,
        measure.bound(then),
        cost.why,
    )
}

/// Reports a value far below its bound: the bound would permit doubled costs, or the counter no longer works.
fn below_bound(cost: &Cost, measure: Measure, then: f64, now: f64) -> String {
    format!(
        "{}: {measure} were {then:.1}, are {now:.1}. If that is an improvement, write the new figure into tests/cost/table.rs",
        cost.work,
    )
}
