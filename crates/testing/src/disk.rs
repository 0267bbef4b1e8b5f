//! A private file system that can be full.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::run::run;

const BALLAST: &str = "ballast";

/// A small file system. It is unmounted when the value is dropped.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// Mounts an empty one.
    pub fn mount() -> Self {
        Self::of("64k")
    }

    /// Mounts an empty one of this size, such as `4m`.
    pub fn of(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path()))
        .ok();
        Self(folder)
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes it read-only. No file may be open for writing.
    pub fn make_read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path())).ok();
    }

    /// Uses up all free space.
    pub fn fill(&self) {
        let full = fs::write(self.path().join(BALLAST), vec![0; 1 << 20]);
        full.expect_err("there is still room");
    }

    /// Frees the space again.
    pub fn make_room(&self) {
        fs::remove_file(self.path().join(BALLAST)).expect("the disk was full");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.path())).ok();
    }
}
