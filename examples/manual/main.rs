//! Generates files for packages: manual pages and completions from the binary's command definitions, and
//! incus-gate-proxy.toml(5) from docs/REFERENCE.md. `cargo run --example manual FOLDER`
//!
//! The folder then has the content of `share`.

mod configuration;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::{Shell, generate_to};

const NAME: &str = env!("CARGO_PKG_NAME");

fn main() -> Result<(), Box<dyn Error>> {
    let share = PathBuf::from(std::env::args_os().nth(1).ok_or("name the folder to write to")?);
    manual(&share)?;
    completions(&share)?;
    Ok(())
}

/// Writes incus-gate(1), a page for each subcommand, and one for the configuration.
fn manual(share: &Path) -> Result<(), Box<dyn Error>> {
    clap_mangen::generate_to(incus_gate::cli::command(), folder(share, "man/man1")?)?;
    let reference = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/REFERENCE.md"))?;
    let page = folder(share, "man/man5")?.join("incus-gate-proxy.toml.5");
    fs::write(page, configuration::page(&reference)?)?;
    Ok(())
}

/// Writes the completions with the file names that each shell expects.
fn completions(share: &Path) -> Result<(), Box<dyn Error>> {
    for (shell, place, name) in [
        (Shell::Bash, "bash-completion/completions", NAME.to_owned()),
        (Shell::Zsh, "zsh/vendor-completions", format!("_{NAME}")),
        (Shell::Fish, "fish/vendor_completions.d", format!("{NAME}.fish")),
    ] {
        let folder = folder(share, place)?;
        let made = generate_to(shell, &mut incus_gate::cli::command(), NAME, &folder)?;
        fs::rename(made, folder.join(name))?;
    }
    Ok(())
}

fn folder(share: &Path, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = share.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
