//! Other programs, with messages that say what failed.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The output and the exit status of a program.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Output {
    /// Returns stdout. Panics with all details if the program failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "this should have succeeded: {self}");
        self.stdout
    }

    /// Returns stderr. Panics if the program succeeded.
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

/// Runs a command until it exits, with an empty stdin.
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

/// A program that runs during a test. It is killed when the value is dropped, also when the test fails.
#[derive(Debug)]
pub struct Started(Child);

impl Started {
    /// Starts the program, with an empty stdin.
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
        // It may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal, by name or number, to a process.
pub fn signal(pid: u32, name: &str) {
    run(Command::new("kill").args(["-s", name, &pid.to_string()])).ok();
}
