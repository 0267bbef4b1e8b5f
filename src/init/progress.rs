//! What `init` prints.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use super::keypair::{Made, Pair};

/// Prints what was done, one line per step, and records whether anything was changed or noted.
#[derive(Debug, Default)]
pub(super) struct ProgressLog {
    pub(super) changed: bool,
    pub(super) noted: bool,
}

impl ProgressLog {
    pub(super) fn step(&mut self, what: &str, which: &str) {
        self.changed = true;
        line(what, which);
    }

    pub(super) fn step_kept(&self, which: &str) {
        line("kept", which);
    }

    pub(super) fn note(&mut self, what: impl fmt::Display) {
        self.noted = true;
        line("note", what);
    }

    pub(super) fn kept(&self, path: &Path) {
        self.step_kept(&path.display().to_string());
    }

    pub(super) fn wrote(&mut self, path: &Path) {
        self.step("wrote", &path.display().to_string());
    }

    pub(super) fn pair(&mut self, pair: &Pair, made: Made) {
        let files = format!("{} and its key", pair.certificate.display());
        match made {
            Made::Now => self.step("created", &files),
            Made::Before => self.step_kept(&files),
        }
    }

    pub(super) fn left(&self, command: &str) {
        line("to do", format!("run: {command}"));
    }
}

fn line(what: &str, which: impl fmt::Display) {
    say(&format!("  {what:<7} {which}"));
}

/// Prints a line. If stdout is closed, the steps still run.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
