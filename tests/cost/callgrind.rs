//! The gateway under callgrind, which counts instructions, calls and system calls.

use std::fs;
use std::ops::Deref;
use std::process::Command;

use super::table::{Figures, Measure};
use super::valgrind::{Core, Valgrind};
use testing::gateway::Gateway;
use testing::run::run;

/// What is measured is repeated, and the lowest counts: a housekeeper's round or a knock at Incus may fall into one.
const ROUNDS: usize = 2;

/// A gateway whose costs can be asked for at any time.
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
        Self(Valgrind::start(Core::Last, &TOOL, "callgrind", configuration))
    }

    /// What `work` costs, of so many times; what it takes to get under way costs nothing.
    pub(crate) fn cost(&self, times: usize, mut work: impl FnMut()) -> Figures {
        work();
        self.counts_so_far();
        let rounds = (0..ROUNDS).map(|_| {
            (0..times).for_each(|_| work());
            self.counts_so_far().per(times)
        });
        rounds.reduce(Figures::lower).expect("there are rounds")
    }

    /// Since the last call.
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

/// Callgrind's own format: functions, each with what it costs itself, and behind a line `calls=` what a call costs that it
/// makes.
///
/// Instructions are those of Rust's functions alone, whose names have a path: what aws-lc's ciphers and libc's memcpy and
/// malloc take differs from processor to processor. Calls of malloc and bytes copied have figures of their own.
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
                // What the call costs is told again where its own function is.
                lines.next();
            }
            None if line.starts_with(|first: char| first.is_ascii_digit()) => {
                let mut costs = line.split(' ').skip(1);
                let itself = number(costs.next());
                if function.contains("::") {
                    instructions += itself;
                }
                // Without valgrind the clock is read in the process itself.
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

/// Whether a function of this name is malloc or its like: libc's, or jemalloc's.
fn allocates(function: &str) -> bool {
    let name = function.strip_prefix("_rjem_").unwrap_or(function);
    matches!(
        name,
        "malloc" | "calloc" | "realloc" | "posix_memalign" | "aligned_alloc" | "mallocx" | "rallocx"
    )
}

/// Zeros at the end of a line are left out.
fn number(text: Option<&str>) -> f64 {
    text.map_or(0.0, |text| text.parse().expect("a number of callgrind's"))
}
