//! Arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    incus_gate::cli::main()
}
