//! A wall clock that only the gateway uses, provided by libfaketime. The monotonic clock is unchanged, as it is when an
//! administrator sets the system's clock.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::gateway::binary;

/// The file that contains the clock's offset.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// Creates a clock without an offset. Its file is in a folder that the gateway can read.
    pub fn without_offset(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set_offset("+0");
        clock
    }

    /// Sets the offset from the system's clock, such as `+400d` or `-10y`.
    pub fn set_offset(&self, offset: &str) {
        // Renamed into place, so that a partial file is never read.
        let new = self.0.with_extension("new");
        std::fs::write(&new, offset).expect("a temporary file can be written");
        std::fs::rename(new, &self.0).expect("our own file");
    }

    /// Returns the gateway's command, which uses this clock.
    pub fn command(&self) -> Command {
        let library = format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketimeMT.so.1");
        assert!(Path::new(&library).exists(), "libfaketime is installed");
        let mut command = Command::new(binary());
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}
