//! What the gateway takes from itself once its sockets are bound. By Landlock: whoever takes it over reads no more than it
//! must, writes nothing but the audit log, runs nothing, and opens no further port. And nobody reads its memory, where root's
//! key to a host is.
//!
//! It holds for the thread that enters it and for all that this one starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

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
    // No core dump has our keys, and no other process of our user looks at them.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("others of the same user can read this process's memory: {error}");
    }
    let (folders, written) = (folders(path, config), written(config));
    match confine(&folders, config.upstream.pin.path(), &written) {
        Ok(status) => log_confinement(&status, &folders, &written),
        Err(error) => tracing::warn!("not confined by Landlock: {error}"),
    }
}

/// The audit log is opened anew when it has been renamed; it need be neither read nor shortened.
fn written(config: &Config) -> BTreeSet<PathBuf> {
    config.log.audit_file.iter().flat_map(|file| folders_of(file)).collect()
}

/// A renewed file is another file in the same folder, or where certbot's link then leads: in the folder where it led before.
fn folders(path: &Path, config: &Config) -> BTreeSet<PathBuf> {
    // Except Incus's certificate, which Incus overwrites in its place: beside it lies all that Incus has.
    let pin = config.upstream.pin.path();
    let files = config.files.paths().filter(|file| Some(*file) != pin);
    files.chain([path]).flat_map(folders_of).collect()
}

/// Where a file is, and where its link leads.
fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let paths = [Some(file.to_owned()), file.canonicalize().ok()];
    paths.into_iter().flatten().filter_map(|file| match file.parent()? {
        here if here.as_os_str().is_empty() => Some(PathBuf::from(".")),
        folder => Some(folder.to_owned()),
    })
}

fn confine(
    folders: &BTreeSet<PathBuf>,
    pin: Option<&Path>,
    written: &BTreeSet<PathBuf>,
) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        // Connecting stays free: a reload may bring another port of Incus.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(folders, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(pin, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(NAMES, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(written, AccessFs::WriteFile | AccessFs::MakeReg))?
        .restrict_self()
}

fn log_confinement(status: &RestrictionStatus, folders: &BTreeSet<PathBuf>, written: &BTreeSet<PathBuf>) {
    let (abi, missing) = match (status.landlock, &status.ruleset) {
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::FullyEnforced) => (effective_abi, ""),
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::PartiallyEnforced) => {
            (effective_abi, ", as far as this kernel can")
        }
        _ => return tracing::info!("not confined by Landlock: this kernel has none, or it is not enabled"),
    };
    tracing::info!(
        "confined by Landlock (ABI {}){missing}: reads upstream.server_certificate and in {}, writes {}, binds nothing",
        abi as i32,
        list(folders),
        match written.is_empty() {
            true => "nothing".to_owned(),
            false => format!("in {}", list(written)),
        }
    );
}

fn list(folders: &BTreeSet<PathBuf>) -> String {
    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    folders.join(", ")
}
