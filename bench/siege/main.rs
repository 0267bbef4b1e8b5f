//! All attacks on a release, and what others notice of them: `make siege`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use testing::siege::report::WHOLE;
use testing::siege::{Attack, Plan};

/// Attacks a gateway in every known way, and says what everybody else notices
#[derive(Debug, Parser)]
#[command(name = "siege")]
struct Arguments {
    /// How long an attack takes; those that need longer take twice as long
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// How many images Incus has
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    images: usize,
    /// From how many addresses; may be given several times
    #[arg(long, value_name = "N", default_values_t = [1, 4])]
    addresses: Vec<usize>,
    /// Only the attacks that have this in their name; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Another binary of the gateway
    #[arg(long, value_name = "PATH", default_value = testing::gateway::binary())]
    gateway: PathBuf,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_wanted = |attack: &Attack| {
        let name = attack.to_string();
        arguments.only.is_empty() || arguments.only.iter().any(|only| name.contains(only.as_str()))
    };
    let attacks: Vec<_> = Attack::ALL.into_iter().filter(is_wanted).collect();
    let report = testing::siege::run(&Plan {
        gateway: arguments.gateway,
        images: arguments.images,
        attacks,
        addresses: arguments.addresses,
        seconds: arguments.seconds,
    });
    println!("{}", report.text(&WHOLE));
    match report.broken(&WHOLE).is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
