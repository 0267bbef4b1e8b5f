//! The gateway under callgrind, which counts instructions, calls and system calls.

use std::fs;
use std::ops::Deref;
use std::process::Command;

use super::table::{Figures, Measure};
use super::valgrind::{Core, Valgrind};
use testing::gateway::Gateway;
use testing::run::run;

/// Each measurement is repeated and the lowest result counts: periodic maintenance or a probe of Incus may fall into one.
const ROUNDS: usize = 2;

/// A gateway whose costs can be read at any time.
#[derive(Debug)]
pub(crate) struct Callgrind(Valgrind);

impl Callgrind {
    pub(crate) fn start(configuration: &str) -> Self {
        const TOOL: [&str; 5] = [
            "--tool=callgrind",
            "--collect-systime=yes",
            "--dump-line=no",
            "--compress-strings=no",
            "--compress-pos=no",
        ];
        let this = Self(Valgrind::start(Core::Last, &TOOL, "callgrind", configuration));
        // Until then, it fetches lists.
        this.wait_for_log("the image list follows Incus's events");
        this
    }

    /// Returns the cost of one run of `work`, from the cheapest of several rounds of `times` runs. A first run is not counted.
    pub(crate) fn cost(&self, times: usize, mut work: impl FnMut()) -> Figures {
        work();
        self.counts_so_far();
        let rounds = (0..ROUNDS).map(|_| {
            (0..times).for_each(|_| work());
            self.counts_so_far().per(times)
        });
        rounds.reduce(Figures::lower).expect("there are rounds")
    }

    /// Returns the costs since the last call.
    fn counts_so_far(&self) -> Figures {
        let pid = format!("--pid={}", self.0.gateway.pid());
        run(Command::new("vgdb").args([&pid, "dump"])).ok();
        let dumps = (1..).map(|number| self.0.counts(&format!(".{number}")));
        let last = dumps.take_while(|path| path.exists()).last();
        let last = last.expect("vgdb has callgrind write a dump");
        parse(&fs::read_to_string(last).expect("a file of ours"))
    }
}

impl Deref for Callgrind {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0.gateway
    }
}

/// Parses Callgrind's format: each function with its own cost and, after a line `calls=`, the cost of a call that it
/// makes.
///
/// Only instructions of Rust functions count; their names have a path. Those of aws-lc's ciphers, and of memcpy and
/// malloc in libc, depend on the processor. Calls of malloc and copied bytes are counted separately.
fn parse(dump: &str) -> Figures {
    let (mut instructions, mut allocations, mut system_calls) = (0.0, 0.0, 0.0);
    let (mut function, mut called) = ("", "");
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        match line.split_once('=') {
            Some(("fn", name)) => function = name,
            Some(("cfn", name)) => called = name,
            Some(("calls", call)) => {
                if allocates(called) {
                    allocations += number(call.split(' ').next());
                }
                // The cost of the call is listed again at the called function.
                lines.next();
            }
            None if line.starts_with(|first: char| first.is_ascii_digit()) => {
                let mut costs = line.split(' ').skip(1);
                let itself = number(costs.next());
                if function.contains("::") {
                    instructions += itself;
                }
                // Without valgrind, reading the clock is no system call.
                if !function.starts_with("clock_gettime") {
                    system_calls += number(costs.next());
                }
            }
            _ => {}
        }
    }
    Figures::new(&[
        (Measure::Instructions, instructions),
        (Measure::Allocations, allocations),
        (Measure::SystemCalls, system_calls),
    ])
}

/// Returns whether this function allocates memory, in libc or jemalloc.
fn allocates(function: &str) -> bool {
    let name = function.strip_prefix("_rjem_").unwrap_or(function);
    matches!(
        name,
        "malloc" | "calloc" | "realloc" | "posix_memalign" | "aligned_alloc" | "mallocx" | "rallocx"
    )
}

/// Callgrind omits zeros at the end of a line.
fn number(text: Option<&str>) -> f64 {
    text.map_or(0.0, |text| text.parse().expect("a number of callgrind's"))
}
