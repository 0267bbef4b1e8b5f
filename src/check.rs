//! `incus-gate check`: loads what `run` would load, then tries the ports and Incus itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::{Config, KnownBy};
use crate::listener::Listener;
use crate::net::Port;
use crate::tls::certificate::Validity;
use crate::upstream::{self, Target, Upstream};
use crate::worker;

/// For Incus to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// At least one line said so.
#[derive(Clone, Copy, Debug)]
pub struct Failed;

/// Prints a line for everything that was tried.
pub fn check(path: &Path, config: &Config) -> Result<(), Failed> {
    let mut report = Report { failed: false };
    report.ok("config", &path.display().to_string());
    check_certificates(&mut report, config);
    let public = check_port(&mut report, Port::Public, &config.public.listen);
    // While that one is held: both may have been given the same address.
    check_port(&mut report, Port::Admin, &config.admin.listen);
    drop(public);
    check_incus(&mut report, config);
    if report.failed { Err(Failed) } else { Ok(()) }
}

struct Report {
    failed: bool,
}

impl Report {
    fn ok(&self, what: &str, finding: &str) {
        Self::line("ok   ", what, finding);
    }

    fn warn(&self, what: &str, finding: &str) {
        Self::line("warn ", what, finding);
    }

    fn fail(&mut self, what: &str, finding: &str) {
        self.failed = true;
        Self::line("FAIL ", what, finding);
    }

    /// Who has closed stdout still gets the exit code.
    fn line(verdict: &str, what: &str, finding: &str) {
        let _ = writeln!(std::io::stdout(), "{verdict} {what}: {finding}");
    }
}

fn check_certificates(report: &mut Report, config: &Config) {
    check_dates(report, "public.tls.certificate", config.public.tls.certificate());
    check_dates(report, "admin.tls.certificate", config.admin.tls.certificate());
    check_dates(
        report,
        "upstream.client_certificate",
        config.upstream.identity.certificate(),
    );
    if config.admin.clients.is_empty() {
        report.warn(
            "admin.clients",
            "nobody is listed, so the admin port will refuse everybody",
        );
    }
    for client in &config.admin.clients {
        let what = format!("admin.clients {:?}", client.name);
        match &client.known_by {
            KnownBy::Certificate(certificate) => check_dates(report, &what, certificate),
            KnownBy::Fingerprint(_) => {
                report.ok(&what, "known by its fingerprint; its dates show when it is presented");
            }
        }
    }
}

fn check_dates(report: &mut Report, what: &str, certificate: &CertificateDer<'_>) {
    const WARN_BELOW: Duration = Duration::from_hours(30 * 24);
    let now = SystemTime::now();
    let validity = match Validity::of(certificate) {
        Ok(validity) => validity,
        Err(error) => return report.fail(what, &error.to_string()),
    };
    match validity.time_left(now) {
        None => report.fail(what, "it has expired; renew it"),
        Some(_) if validity.is_ahead_of(now) => {
            report.fail(what, "it is not valid yet; check its dates and this machine's clock");
        }
        Some(left) => {
            let finding = format!("expires in {} days", left.as_secs() / 86_400);
            if left < WARN_BELOW {
                report.warn(what, &finding);
            } else {
                report.ok(what, &finding);
            }
        }
    }
}

fn check_port(report: &mut Report, port: Port, addresses: &[SocketAddr]) -> Option<Vec<Listener>> {
    match Listener::bind(port, addresses) {
        Ok(listeners) => {
            report.ok(&format!("{port}.listen"), "free");
            Some(listeners)
        }
        // By a gateway that runs already, most likely.
        Err(error) if error.is_in_use() => {
            report.warn(&error.key(), &error.to_string());
            None
        }
        Err(error) => {
            report.fail(&error.key(), &error.to_string());
            None
        }
    }
}

#[derive(Deserialize)]
struct Server {
    metadata: Trust,
}

#[derive(Deserialize)]
struct Trust {
    auth: String,
}

fn check_incus(report: &mut Report, config: &Config) {
    match config.upstream.pin.certificate() {
        Some(_) => report.ok("upstream.server_certificate", "pinned, whatever its dates"),
        None => report.warn(
            "upstream.server_certificate",
            "not set: whoever listens there on this machine is taken for Incus",
        ),
    }
    let what = format!("Incus at {}", config.upstream.url);
    let runtime = match worker::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report.fail(&what, &error.to_string()),
    };
    let upstream = Upstream::new(Arc::new(Target::new(&config.upstream)));
    let answer = async { timeout(PATIENCE, upstream.fetch("/1.0", 1 << 20)).await };
    let answer = runtime.block_on(answer);
    match answer.unwrap_or(Err(upstream::Error::Timeout(PATIENCE))).map(|body| serde_json::from_slice::<Server>(&body)) {
        Ok(Ok(server)) if server.metadata.auth == "trusted" => report.ok(&what, "answers, and trusts upstream.client_certificate"),
        Ok(Ok(_)) => report.fail(
            &what,
            "answers, but does not trust upstream.client_certificate; run `incus config trust add-certificate` with that file",
        ),
        Ok(Err(error)) => report.fail(&what, &format!("answers, but not as Incus does ({error})")),
        Err(error) => report.fail(&what, &error.to_string()),
    }
}
