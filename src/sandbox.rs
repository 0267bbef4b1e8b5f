//! What the gateway takes from itself by Landlock once its sockets are bound: whoever takes it over reads no more than it
//! must, writes nothing, runs nothing, and opens no further port.
//!
//! It holds for the thread that enters it and for all that this one starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::config::Config;

/// The newest that was tried. A kernel with less of it enforces what it knows.
const NEWEST: ABI = ABI::V7;

/// What the system reads to find a host by its name. Everybody may, and `upstream.url` may name one after a reload.
const NAMES: [&str; 5] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// Enters it, as far as the kernel can, and says in the log how far that was.
pub fn enter(path: &Path, config: &Config) {
    let folders = folders(path, config);
    match confine(&folders, config.upstream.pin.path()) {
        Ok(status) => tell(&status, &folders),
        Err(error) => tracing::warn!("not confined by Landlock: {error}"),
    }
}

/// A renewed file is another file in the same folder, or where certbot's link then leads: in the folder where it led before.
fn folders(path: &Path, config: &Config) -> BTreeSet<PathBuf> {
    // Except Incus's certificate, which Incus overwrites in its place: beside it lies all that Incus has.
    let pin = config.upstream.pin.path();
    let files = config.files.paths().filter(|file| Some(*file) != pin);
    files
        .chain([path])
        .flat_map(|file| [Some(file.to_owned()), file.canonicalize().ok()])
        .flatten()
        .filter_map(|file| match file.parent()? {
            here if here.as_os_str().is_empty() => Some(PathBuf::from(".")),
            folder => Some(folder.to_owned()),
        })
        .collect()
}

fn confine(folders: &BTreeSet<PathBuf>, pin: Option<&Path>) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        // Connecting stays free: a reload may bring another port of Incus.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(folders, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(pin, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(NAMES, AccessFs::ReadFile))?
        .restrict_self()
}

fn tell(status: &RestrictionStatus, folders: &BTreeSet<PathBuf>) {
    let (abi, missing) = match (status.landlock, &status.ruleset) {
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::FullyEnforced) => (effective_abi, ""),
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::PartiallyEnforced) => {
            (effective_abi, ", as far as this kernel can")
        }
        _ => return tracing::info!("not confined by Landlock: this kernel has none, or it is not enabled"),
    };
    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    tracing::info!(
        "confined by Landlock (ABI {}){missing}: reads upstream.server_certificate and in {}, writes nothing, binds nothing",
        abi as i32,
        folders.join(", ")
    );
}
