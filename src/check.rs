//! `incus-gate check`: loads what `run` would load, then tries the ports and Incus itself.
//!
//! `settings` is what can be said without trying, of which `run` tells the log what is bad; `incus` what Incus says.

mod incus;
mod settings;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::config::Config;
use crate::listener;
use crate::port::Port;

/// At least one line said so.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

/// Prints a line for everything that was tried.
pub fn check(path: &Path, config: &Config) -> Result<(), Failed> {
    let mut report = Report { failed: false };
    report.add(&Finding::ok("config", &path.display().to_string()));
    for finding in settings::look(config) {
        report.add(&finding);
    }
    // While the others are held: they may have been given the same address.
    let public = check_port(&mut report, Port::Public.name(), &config.public.listen);
    let admin = check_port(&mut report, Port::Admin.name(), &config.admin.listen);
    if !config.metrics.is_empty() {
        check_port(&mut report, "metrics", &config.metrics);
    }
    drop((public, admin));
    for finding in incus::ask(config) {
        report.add(&finding);
    }
    if report.failed { Err(Failed) } else { Ok(()) }
}

/// Tells the log what will hurt, without trying anything.
pub fn warn(config: &Config) {
    for Finding { verdict, what, text } in settings::look(config) {
        if verdict != Verdict::Ok {
            tracing::warn!("{what}: {text}");
        }
    }
}

/// What was looked at, and how it is.
struct Finding {
    verdict: Verdict,
    what: String,
    text: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Verdict {
    Fail,
    Ok,
    Warn,
}

impl Finding {
    fn ok(what: &str, text: &str) -> Self {
        Self::new(Verdict::Ok, what, text)
    }

    /// It works, but not for ever, or not as it could.
    fn warn(what: &str, text: &str) -> Self {
        Self::new(Verdict::Warn, what, text)
    }

    fn fail(what: &str, text: &str) -> Self {
        Self::new(Verdict::Fail, what, text)
    }

    fn new(verdict: Verdict, what: &str, text: &str) -> Self {
        Self {
            verdict,
            what: what.to_owned(),
            text: text.to_owned(),
        }
    }
}

struct Report {
    failed: bool,
}

impl Report {
    /// Ignores errors: if stdout is closed, the exit code still counts.
    fn add(&mut self, Finding { verdict, what, text }: &Finding) {
        self.failed |= *verdict == Verdict::Fail;
        let verdict = match verdict {
            Verdict::Fail => "FAIL ",
            Verdict::Ok => "ok   ",
            Verdict::Warn => "warn ",
        };
        let _ = writeln!(std::io::stdout(), "{verdict} {what}: {text}");
    }
}

fn check_port(report: &mut Report, table: &'static str, addresses: &[SocketAddr]) -> Option<Vec<TcpListener>> {
    match listener::bind(table, addresses) {
        Ok(listeners) => {
            report.add(&Finding::ok(&format!("{table}.listen"), "free"));
            Some(listeners)
        }
        // By a gateway that runs already, most likely.
        Err(error) if error.is_in_use() => {
            report.add(&Finding::warn(&error.key(), &error.to_string()));
            None
        }
        Err(error) => {
            report.add(&Finding::fail(&error.key(), &error.to_string()));
            None
        }
    }
}
