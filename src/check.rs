//! `incus-gate check`: loads everything that `run` loads, then tests the ports and the connection to Incus.
//!
//! `store` looks at the store's directory. `settings` inspects the configuration without any test (`run` logs its problems as warnings); `incus` queries Incus.
//! Each result is a `finding`.

mod finding;
mod incus;
mod settings;
mod store;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use edge::listener;

use self::finding::{Finding, Verdict};
use crate::config::Config;

/// At least one finding is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

/// Runs every check and prints a line for each finding.
pub fn check(path: &Path, config: &Config) -> Result<(), Failed> {
    let mut report = Report { failed: false };
    report.add(&Finding::ok("config", &path.display().to_string()));
    for finding in settings::look(config) {
        report.add(&finding);
    }
    // The listeners stay open until all ports have been checked, because two of them may be configured with the same address.
    let public = check_port(&mut report, "public", &config.public.listen);
    let admin = check_port(&mut report, "admin", &config.admin.listen);
    if !config.metrics.is_empty() {
        check_port(&mut report, "metrics", &config.metrics);
    }
    drop((public, admin));
    if let Some(store) = &config.store {
        for finding in store::look(store) {
            report.add(&finding);
        }
    }
    for finding in incus::ask(config) {
        report.add(&finding);
    }
    if report.failed { Err(Failed) } else { Ok(()) }
}

/// Logs a warning for every problem that can be found without testing anything.
pub fn warn(config: &Config) {
    for Finding { verdict, what, text } in settings::look(config) {
        if verdict != Verdict::Ok {
            tracing::warn!("{what}: {text}");
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
        // Most likely a running gateway uses the address.
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
