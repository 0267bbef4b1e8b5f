//! Checks of the store's directory. They create nothing: what root creates, the gateway's user could not write.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatVfs, accessat, statvfs};

use super::finding::Finding;
use crate::config::StoreConfig;

const DIRECTORY: &str = "store.directory";

/// Returns whether this user can use the directory, and whether there is room for what may be stored.
pub(super) fn look(config: &StoreConfig) -> Vec<Finding> {
    let directory = &config.directory;
    let place = match find_place(directory) {
        Ok(place) => place,
        Err((path, error)) if !directory.exists() => {
            let problem = format!(
                "it does not exist, and the current user cannot create it in {}: {error}; the unit creates \
                 /var/cache/incus-gate, other folders must be created for the gateway's user",
                path.display()
            );
            return vec![Finding::warn(DIRECTORY, &problem)];
        }
        Err((path, error)) => {
            let problem = format!(
                "the current user cannot write to {}: {error}; run this as the gateway's user, and give it the folder",
                path.display()
            );
            return vec![Finding::fail(DIRECTORY, &problem)];
        }
    };
    let state = match (place == *directory, store::is_in_use(directory)) {
        (_, true) => "in use by a running gateway",
        (true, false) => "can be written",
        (false, false) => "does not exist yet, and can be created",
    };
    let mut findings = vec![Finding::ok(DIRECTORY, state)];
    match statvfs(&place) {
        Ok(disk) => findings.push(look_at_size(config, &disk)),
        Err(error) => findings.push(Finding::warn(
            "store.size",
            &format!("cannot tell the size of the disk: {error}"),
        )),
    }
    findings
}

/// Returns the directory, or the nearest one above it that exists, if this user can write to it and to what is in it.
fn find_place(directory: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    let place = directory.ancestors().find(|place| place.exists()).unwrap_or(directory);
    let mut paths = vec![place.to_owned()];
    if place == directory {
        paths.extend(["files", "images", "incoming"].map(|name| directory.join(name)));
    }
    for path in paths {
        let access = accessat(CWD, &path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        match access.map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != place => {}
            Err(error) => return Err((path, error)),
            Ok(()) => {}
        }
    }
    Ok(place.to_owned())
}

fn look_at_size(config: &StoreConfig, disk: &StatVfs) -> Finding {
    let mebibytes = |bytes: u64| bytes >> 20;
    let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match whole < config.size {
        true => {
            let problem = format!(
                "{} MiB, but the file system has only {} MiB: when it is full, images are streamed from Incus; lower \
                 store.size",
                mebibytes(config.size),
                mebibytes(whole)
            );
            Finding::warn("store.size", &problem)
        }
        false => {
            let room = format!(
                "{} MiB; {} MiB of the file system are free",
                mebibytes(config.size),
                mebibytes(free)
            );
            Finding::ok("store.size", &room)
        }
    }
}
