//! All attacks on a release build, and their effect on other clients: `make siege`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use testing::siege::report::WHOLE;
use testing::siege::{Attack, Plan};

/// Runs every known attack against a gateway, and reports the effect on other clients
#[derive(Debug, Parser)]
#[command(name = "siege")]
struct Arguments {
    /// The duration of an attack, in seconds; some attacks take twice as long
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// The number of images in Incus
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    images: usize,
    /// The number of attacking addresses; can be repeated
    #[arg(long, value_name = "N", default_values_t = [1, 4])]
    addresses: Vec<usize>,
    /// Run only the attacks with this in their name; can be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Another binary of the gateway
    #[arg(long, value_name = "PATH", default_value = testing::gateway::binary())]
    gateway: PathBuf,
    /// Ignored: Cargo passes it to every benchmark
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
