//! Other programs' doings, with messages that tell what went wrong.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Stdio};

/// What a program has said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// As text.
    pub stdout: String,
    /// As text.
    pub stderr: String,
}

impl Output {
    /// What it wrote, if it has succeeded; or the test fails with all there is to know.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "this should have succeeded: {self}");
        self.stdout
    }

    /// What it complained about, if it has failed; or the test does.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.status.success(), "this should have failed: {self}");
        self.stderr
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "{command}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs a command to its end, with nothing to read from.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
    Output {
        command: line,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that runs beside a test; it is killed when this is dropped, also by a test that fails.
#[derive(Debug)]
pub struct Started(Child);

impl Started {
    /// Starts it, with nothing to read from.
    #[track_caller]
    pub fn by(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }
}

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal, by its name or number, to a process of ours.
pub fn signal(pid: u32, name: &str) {
    run(Command::new("kill").args(["-s", name, &pid.to_string()])).ok();
}
