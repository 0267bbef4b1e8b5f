//! Runs cases against a gateway and an upstream, which all cases share. Each case begins with a reload.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::TestCaseError;
use rustls::sign::CertifiedKey;

use super::case::{Burst, Case, Handshake, Listed, Step};
use super::certificates::{TestCertificate, make, signing};
use super::connection::Connection;
use super::model::{ConnectionModel, Listing, Outcome, expected_fate, name_in};
use testing::gateway::toml;
use testing::images::sha256;
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::{Scripted, Wire};
use testing::tls::TlsClient;

pub(crate) struct Harness {
    scene: ScriptedScene,
    /// The targets of requests that have reached the upstream.
    arrived: Arc<Mutex<HashSet<String>>>,
    _upstream: Scripted,
    targets: Cell<usize>,
    /// Number of observations of each outcome.
    pub(crate) seen: RefCell<BTreeMap<&'static str, usize>>,
}

/// The state of one case.
struct CaseRun<'a> {
    harness: &'a Harness,
    certificates: Vec<TestCertificate>,
    listing: Listing,
    /// A client for each version of TLS, which keeps all sessions of both ports.
    clients: [TlsClient; 2],
    open: Vec<(Connection, ConnectionModel)>,
    sent: Vec<SentRequest>,
    /// Length of the log at the start of the case.
    log: usize,
}

/// A sent request and its expected effects.
struct SentRequest {
    target: String,
    /// Whether a response was received, so that the request must have reached the upstream.
    must_arrive: bool,
    /// The admin it belongs to; with `None` it must not reach the upstream.
    admin: Option<String>,
}

impl SentRequest {
    fn unauthenticated(target: String) -> Self {
        Self {
            target,
            must_arrive: false,
            admin: None,
        }
    }
}

impl Harness {
    pub(crate) fn build() -> Self {
        let arrived = Arc::new(Mutex::new(HashSet::new()));
        let noted = Arc::clone(&arrived);
        let upstream = Scripted::start(move |request, wire: &mut Wire| {
            noted.lock().unwrap().insert(request.target());
            wire.answer("200 OK", "text/plain", b"served")
        });
        let scene = ScriptedScene::before_with(&upstream, |setup| {
            setup.more = "[limits]\nhandshake_timeout = \"5m\"\nheader_timeout = \"5m\"\nidle_timeout = \"5m\"\n\
                [reload]\ninterval = \"24h\"\n\
                [log]\nlevel = \"error,incus_gate::access=info,incus_gate::reload=info,incus_gate::lifecycle=info\"\n"
                .to_owned();
        });
        Self {
            scene,
            arrived,
            _upstream: upstream,
            targets: Cell::new(0),
            seen: RefCell::default(),
        }
    }

    pub(crate) fn run(&self, case: &Case) -> Result<(), TestCaseError> {
        let mut run = CaseRun {
            harness: self,
            certificates: make(&case.certificates),
            listing: Vec::new(),
            clients: [TlsClient::tls13(), TlsClient::tls12()],
            open: Vec::new(),
            sent: Vec::new(),
            log: self.scene.gateway.log_length(),
        };
        run.reload(&case.listed);
        for step in &case.steps {
            run.take(step)?;
        }
        run.check_upstream_and_log()
    }

    /// Returns a target that was not used before.
    fn target(&self) -> String {
        self.targets.set(self.targets.get() + 1);
        format!("/1.0/instances/i{:07}", self.targets.get())
    }

    fn count(&self, outcome: Outcome) {
        let what = match outcome {
            Outcome::Gone => "no connection",
            Outcome::Refused(words) => words,
            Outcome::Served => "served",
        };
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    fn reload(&self, text: &str, message: &str) {
        let gateway = &self.scene.gateway;
        let before = gateway.log_length();
        gateway.reconfigure(text);
        gateway.signal("HUP");
        gateway.wait_for_log_after(before, message);
    }
}

impl CaseRun<'_> {
    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Connect(handshake, burst) => self.connect(handshake, *burst),
            Step::Ask(at, burst) if !self.open.is_empty() => self.ask(at.index(self.open.len()), *burst),
            Step::Ask(..) => Ok(()),
            Step::Reload(listed) => {
                self.reload(listed);
                Ok(())
            }
            Step::ReloadOfNonsense => {
                self.harness.reload("[admin]\nclients = 1\n", "reload failed");
                Ok(())
            }
            Step::Visit { is_tls12 } => {
                let visit = self.clients[usize::from(*is_tls12)].connect(self.harness.scene.gateway.public());
                let answer = visit.and_then(|mut raw| raw.get("/1.0"));
                assert_eq!(answer.map(|answer| answer.head.status), Ok(200));
                Ok(())
            }
        }
    }

    fn reload(&mut self, listed: &[Listed]) {
        self.listing.clear();
        let mut clients = String::new();
        for listed in listed {
            let at = listed.certificate.index(self.certificates.len());
            let made = &self.certificates[at];
            if !made.is_sound || self.listing.iter().any(|(_, other)| other.der == made.der) {
                continue;
            }
            let name = format!("admin-{at}");
            let known_by = match listed.by_file {
                true => format!("certificate = {}", toml(&self.harness.file(at, made))),
                false => format!("fingerprint = \"{}\"", sha256(&[&made.der])),
            };
            clients += &format!("[[admin.clients]]\nname = \"{name}\"\n{known_by}\n");
            self.listing.push((name, made.clone()));
        }
        let mut setup: Setup = self.harness.scene.setup.clone();
        setup.admins.clear();
        setup.more += &clients;
        self.harness.reload(&setup.text(), " reloaded");
        for (_, known) in &mut self.open {
            known.apply(&self.listing);
        }
    }

    fn connect(&mut self, handshake: &Handshake, burst: Burst) -> Result<(), TestCaseError> {
        let shown = handshake
            .certificate
            .map(|certificate| certificate.get(&self.certificates));
        let client = &self.clients[usize::from(handshake.is_tls12)];
        client.stop_presenting();
        let mut is_proved = true;
        if let Some(shown) = shown {
            let signer = handshake.signer.unwrap_or_else(|| shown.key());
            is_proved = signer == shown.key();
            let behind = handshake
                .chain
                .iter()
                .map(|certificate| certificate.get(&self.certificates));
            let chain = std::iter::once(shown).chain(behind).map(|made| made.der.clone());
            client.present(CertifiedKey::new(chain.collect(), signing(signer)));
        }
        let mut known = ConnectionModel::new(shown.cloned(), shown.is_some_and(|shown| !shown.is_sound));
        known.apply(&self.listing);
        let connection = Connection::open(client, self.harness.scene.gateway.admin(), handshake.is_http2);
        match connection {
            Some(connection) => {
                self.open.push((connection, known));
                let at = self.open.len() - 1;
                match is_proved {
                    true => self.ask(at, burst),
                    // In TLS 1.3, the client learns of a rejected certificate after its handshake.
                    false => self.check_unproved(at),
                }
            }
            None => {
                self.harness.count(Outcome::Gone);
                let expected = match is_proved {
                    true => expected_fate(&self.listing, shown),
                    false => Outcome::Gone,
                };
                known.check(expected, Outcome::Gone)
            }
        }
    }

    fn check_unproved(&mut self, at: usize) -> Result<(), TestCaseError> {
        let (mut connection, mut known) = self.open.swap_remove(at);
        let target = self.harness.target();
        let seen = connection.ask(std::slice::from_ref(&target), false)[0];
        self.harness.count(seen);
        self.sent.push(SentRequest::unauthenticated(target));
        known.check(Outcome::Gone, seen)
    }

    fn ask(&mut self, at: usize, burst: Burst) -> Result<(), TestCaseError> {
        let (mut connection, mut known) = self.open.swap_remove(at);
        let shown = known.shown.as_ref();
        let expected = expected_fate(&self.listing, shown);
        let name = shown
            .filter(|_| expected == Outcome::Served)
            .and_then(|shown| name_in(&self.listing, shown));
        let name = name.map(str::to_owned);
        let targets: Vec<String> = (0..burst.requests).map(|_| self.harness.target()).collect();
        let seen = connection.ask(&targets, burst.at_once);
        for (target, seen) in targets.into_iter().zip(&seen) {
            self.harness.count(*seen);
            known.check(expected, *seen)?;
            self.sent.push(SentRequest {
                target,
                must_arrive: *seen == Outcome::Served,
                admin: name.clone(),
            });
        }
        if !seen.contains(&Outcome::Gone) {
            self.open.push((connection, known));
        }
        Ok(())
    }

    /// Checks that rejected requests did not reach the upstream, and that forwarded ones are logged with their admin.
    fn check_upstream_and_log(self) -> Result<(), TestCaseError> {
        // Close the connections first: then each request is in the log.
        drop(self.open);
        for SentRequest {
            target,
            must_arrive,
            admin,
        } in &self.sent
        {
            let has_arrived = self.harness.arrived.lock().unwrap().contains(target);
            if *must_arrive && !has_arrived {
                return Err(TestCaseError::fail(format!("{target} was answered by nobody")));
            }
            match admin {
                Some(name) if has_arrived => {
                    let words = format!(" path=\"{target}\" ");
                    let is_its = |line: &str| line.contains(&words);
                    let line = self.harness.scene.gateway.wait_for_line_after(self.log, is_its);
                    if !line
                        .as_ref()
                        .is_some_and(|line| line.contains(&format!(" admin={name} ")))
                    {
                        return Err(TestCaseError::fail(format!(
                            "{target} was {name}'s, and is logged as {line:?}"
                        )));
                    }
                }
                None if has_arrived => {
                    return Err(TestCaseError::fail(format!("{target} was nobody's, and has gone up")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Harness {
    /// Returns a path in a folder that the gateway's sandbox can read.
    fn file(&self, at: usize, made: &TestCertificate) -> PathBuf {
        let file = self.scene.certificates.folder().join(format!("certificate-{at}.crt"));
        std::fs::write(&file, made.pem()).unwrap();
        file
    }
}
