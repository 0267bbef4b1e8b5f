//! Arguments → command → exit code.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Thousands of connections come and go: it gives their memory back, where the C library's keeps the holes between them.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    incus_gate::cli::main()
}
