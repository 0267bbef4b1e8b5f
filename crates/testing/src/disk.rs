//! A file system of a test's own, which can be full.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::run::run;

const BALLAST: &str = "ballast";

/// A small one; it is gone when this is dropped.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// An empty one.
    pub fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path()))
        .ok();
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room that there is.
    pub fn fill(&self) {
        let full = fs::write(self.path().join(BALLAST), vec![0; 1 << 20]);
        full.expect_err("there is still room");
    }

    /// Gives it back.
    pub fn make_room(&self) {
        fs::remove_file(self.path().join(BALLAST)).expect("the disk was full");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.path())).ok();
    }
}
