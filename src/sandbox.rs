//! The privileges that the gateway drops once its sockets are bound. Landlock limits what an attacker who takes over the
//! process can do: read only the required files, write only the audit log and the store, execute nothing, bind no further port.
//! The process memory, which contains a key with root access to the host, is not readable by other processes.
//!
//! The restrictions apply to the thread that calls [`enter`] and to all threads it starts afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::config::Config;

/// The newest Landlock ABI that has been tested. An older kernel enforces the part it supports.
const NEWEST: ABI = ABI::V7;

/// The files that the C library reads to resolve a host name. They are world-readable, and `upstream.url` may contain a name
/// after a reload.
const NAMES: [&str; 5] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// What the store does in its directory: it creates, renames and deletes files.
fn store_access() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::Refer
}

/// Enters the sandbox as far as the kernel supports it, and logs what is enforced.
pub fn enter(path: &Path, config: &Config) {
    // Keeps the keys out of core dumps and away from other processes of the same user.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("other processes of the same user can read this process's memory: {error}");
    }
    let (folders, written) = (folders(path, config), written(config));
    let store = config.store.as_ref().map(|store| &*store.directory);
    match confine(&folders, config.upstream.pin.path(), &written, store) {
        Ok(status) => log_confinement(&status, &folders, &written, store),
        Err(error) => tracing::warn!("not confined by Landlock: {error}"),
    }
}

/// Returns the folders with write access. The audit log is recreated after it has been renamed; it needs no read or truncate
/// access.
fn written(config: &Config) -> BTreeSet<PathBuf> {
    config.log.audit_file.iter().flat_map(|file| folders_of(file)).collect()
}

/// Returns the folders with read access. A renewed certificate is a new file in the same folder, or, with certbot's symbolic
/// links, a new file in the folder of the previous link target.
fn folders(path: &Path, config: &Config) -> BTreeSet<PathBuf> {
    // Except Incus's certificate: Incus overwrites it in place, and its folder contains Incus's entire state.
    let pin = config.upstream.pin.path();
    let files = config.files.paths().filter(|file| Some(*file) != pin);
    files.chain([path]).flat_map(folders_of).collect()
}

/// Returns the folder of a file, and the folder of its symbolic link target.
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
    store: Option<&Path>,
) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        // Connecting is unrestricted: a reload may change Incus's port.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(folders, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(pin, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(NAMES, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(written, AccessFs::WriteFile | AccessFs::MakeReg))?
        .add_rules(path_beneath_rules(store, store_access()))?
        .restrict_self()
}

fn log_confinement(
    status: &RestrictionStatus,
    folders: &BTreeSet<PathBuf>,
    written: &BTreeSet<PathBuf>,
    store: Option<&Path>,
) {
    let written: &BTreeSet<PathBuf> = &written.iter().cloned().chain(store.map(Path::to_owned)).collect();
    let (abi, missing) = match (status.landlock, &status.ruleset) {
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::FullyEnforced) => (effective_abi, ""),
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::PartiallyEnforced) => {
            (effective_abi, ", as far as this kernel supports it")
        }
        _ => return tracing::info!("not confined by Landlock: this kernel does not support it, or it is disabled"),
    };
    tracing::info!(
        "confined by Landlock (ABI {}){missing}: may read upstream.server_certificate and in {}, write {}, and bind no port",
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
