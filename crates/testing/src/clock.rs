//! A clock that only the gateway goes by: libfaketime, between it and the system's. What the kernel counts since it was
//! started goes on as ever, as it does when a real clock is moved.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::gateway::binary;

/// The clock's file.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// One that is right, with its file in a folder that the gateway reads.
    pub fn right(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.moved("+0");
        clock
    }

    /// Moves it by so much from what is right, such as `+400d` or `-10y`.
    pub fn moved(&self, offset: &str) {
        // What is read is never half of it.
        let new = self.0.with_extension("new");
        std::fs::write(&new, offset).expect("a temporary file can be written");
        std::fs::rename(new, &self.0).expect("our own file");
    }

    /// The gateway's command line, to start it with.
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
