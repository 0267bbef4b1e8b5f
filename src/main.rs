//! The `incus-gate` binary: runs [`incus_gate::cli::main`] and exits with its code.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// jemalloc returns the memory of short-lived connections to the system; glibc's allocator keeps it because of fragmentation.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    incus_gate::cli::main()
}
