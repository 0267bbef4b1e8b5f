//! The gateway, the upstream, and all that a case does to them. They outlive the cases: each begins with a reload.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::TestCaseError;
use rustls::sign::CertifiedKey;

use super::line::Line;
use super::model::{Fate, Known, Listing, judge, name_in};
use super::paper::{Made, make, signing};
use super::play::{Burst, Handshake, Listed, Play, Step};
use testing::gateway::toml;
use testing::images::sha256;
use testing::scene::{ScriptedScene, Setup};
use testing::scripted::{Scripted, Wire};
use testing::tls::TlsClient;

pub(crate) struct Stage {
    scene: ScriptedScene,
    /// The targets of what has reached the upstream.
    arrived: Arc<Mutex<HashSet<String>>>,
    _upstream: Scripted,
    targets: Cell<usize>,
    /// How often what was seen.
    pub(crate) seen: RefCell<BTreeMap<&'static str, usize>>,
}

/// What one case keeps.
struct Act<'a> {
    stage: &'a Stage,
    papers: Vec<Made>,
    listing: Listing,
    /// A client for each version of TLS, who keeps all sessions offered, whoever they were offered to.
    wallets: [TlsClient; 2],
    open: Vec<(Line, Known)>,
    asked: Vec<Asked>,
    /// Where the log was when it began.
    log: usize,
}

/// A request, and what has become of it if all is well.
struct Asked {
    target: String,
    /// Its answer has come.
    must_arrive: bool,
    /// Whose it was. Nobody's must not arrive.
    admin: Option<String>,
}

impl Asked {
    fn of_nobody(target: String) -> Self {
        Self {
            target,
            must_arrive: false,
            admin: None,
        }
    }
}

impl Stage {
    pub(crate) fn build() -> Self {
        let arrived = Arc::new(Mutex::new(HashSet::new()));
        let noted = Arc::clone(&arrived);
        let upstream = Scripted::start(move |request, wire: &mut Wire| {
            noted.lock().unwrap().insert(request.target());
            wire.answer("200 OK", "text/plain", b"welcome")
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

    pub(crate) fn play(&self, play: &Play) -> Result<(), TestCaseError> {
        let mut act = Act {
            stage: self,
            papers: make(&play.papers),
            listing: Vec::new(),
            wallets: [TlsClient::tls13(), TlsClient::tls12()],
            open: Vec::new(),
            asked: Vec::new(),
            log: self.scene.gateway.log_length(),
        };
        act.reload(&play.listed);
        for step in &play.steps {
            act.take(step)?;
        }
        act.hold_against_upstream_and_log()
    }

    /// One that nobody has asked for.
    fn target(&self) -> String {
        self.targets.set(self.targets.get() + 1);
        format!("/1.0/instances/i{:07}", self.targets.get())
    }

    fn count(&self, fate: Fate) {
        let what = match fate {
            Fate::Gone => "no connection",
            Fate::Refused(words) => words,
            Fate::Welcome => "welcome",
        };
        *self.seen.borrow_mut().entry(what).or_default() += 1;
    }

    fn reload(&self, text: &str, told: &str) {
        let gateway = &self.scene.gateway;
        let before = gateway.log_length();
        gateway.reconfigure(text);
        gateway.signal("HUP");
        gateway.wait_for_log_after(before, told);
    }
}

impl Act<'_> {
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
                self.stage.reload("[admin]\nclients = 1\n", "reload failed");
                Ok(())
            }
            Step::Visit { is_tls12 } => {
                let visit = self.wallets[usize::from(*is_tls12)].connect(self.stage.scene.gateway.public());
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
            let at = listed.paper.index(self.papers.len());
            let made = &self.papers[at];
            if !made.is_sound || self.listing.iter().any(|(_, other)| other.der == made.der) {
                continue;
            }
            let name = format!("admin-{at}");
            let known_by = match listed.by_file {
                true => format!("certificate = {}", toml(&self.stage.file(at, made))),
                false => format!("fingerprint = \"{}\"", sha256(&[&made.der])),
            };
            clients += &format!("[[admin.clients]]\nname = \"{name}\"\n{known_by}\n");
            self.listing.push((name, made.clone()));
        }
        let mut setup: Setup = self.stage.scene.setup.clone();
        setup.admins.clear();
        setup.more += &clients;
        self.stage.reload(&setup.text(), " reloaded");
        for (_, known) in &mut self.open {
            known.see(&self.listing);
        }
    }

    fn connect(&mut self, handshake: &Handshake, burst: Burst) -> Result<(), TestCaseError> {
        let shown = handshake.paper.map(|paper| paper.get(&self.papers));
        let wallet = &self.wallets[usize::from(handshake.is_tls12)];
        wallet.present_nothing();
        let mut is_proved = true;
        if let Some(shown) = shown {
            let signer = handshake.signer.unwrap_or_else(|| shown.key());
            is_proved = signer == shown.key();
            let behind = handshake.chain.iter().map(|paper| paper.get(&self.papers));
            let chain = std::iter::once(shown).chain(behind).map(|made| made.der.clone());
            wallet.present(CertifiedKey::new(chain.collect(), signing(signer)));
        }
        let mut known = Known::new(shown.cloned(), shown.is_some_and(|shown| !shown.is_sound));
        known.see(&self.listing);
        let line = Line::open(wallet, self.stage.scene.gateway.admin(), handshake.is_http2);
        match line {
            Some(line) => {
                self.open.push((line, known));
                let at = self.open.len() - 1;
                match is_proved {
                    true => self.ask(at, burst),
                    // TLS 1.3 tells its client only with what comes next.
                    false => self.hold_unproved(at),
                }
            }
            None => {
                self.stage.count(Fate::Gone);
                let expected = match is_proved {
                    true => judge(&self.listing, shown),
                    false => Fate::Gone,
                };
                known.hold(expected, Fate::Gone)
            }
        }
    }

    fn hold_unproved(&mut self, at: usize) -> Result<(), TestCaseError> {
        let (mut line, mut known) = self.open.swap_remove(at);
        let target = self.stage.target();
        let seen = line.ask(std::slice::from_ref(&target), false)[0];
        self.stage.count(seen);
        self.asked.push(Asked::of_nobody(target));
        known.hold(Fate::Gone, seen)
    }

    fn ask(&mut self, at: usize, burst: Burst) -> Result<(), TestCaseError> {
        let (mut line, mut known) = self.open.swap_remove(at);
        let shown = known.shown.as_ref();
        let expected = judge(&self.listing, shown);
        let name = shown
            .filter(|_| expected == Fate::Welcome)
            .and_then(|shown| name_in(&self.listing, shown));
        let name = name.map(str::to_owned);
        let targets: Vec<String> = (0..burst.requests).map(|_| self.stage.target()).collect();
        let seen = line.ask(&targets, burst.at_once);
        for (target, seen) in targets.into_iter().zip(&seen) {
            self.stage.count(*seen);
            known.hold(expected, *seen)?;
            self.asked.push(Asked {
                target,
                must_arrive: *seen == Fate::Welcome,
                admin: name.clone(),
            });
        }
        if !seen.contains(&Fate::Gone) {
            self.open.push((line, known));
        }
        Ok(())
    }

    /// What was refused has not gone up, and what went up is logged as its admin's.
    fn hold_against_upstream_and_log(self) -> Result<(), TestCaseError> {
        // Connections end before the log is looked at: each request is then in it.
        drop(self.open);
        for Asked {
            target,
            must_arrive,
            admin,
        } in &self.asked
        {
            let has_arrived = self.stage.arrived.lock().unwrap().contains(target);
            if *must_arrive && !has_arrived {
                return Err(TestCaseError::fail(format!("{target} was answered by nobody")));
            }
            match admin {
                Some(name) if has_arrived => {
                    let words = format!(" path=\"{target}\" ");
                    let is_its = |line: &str| line.contains(&words);
                    let line = self.stage.scene.gateway.wait_for_line_after(self.log, is_its);
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

impl Stage {
    /// In a folder that the gateway could read from the beginning.
    fn file(&self, at: usize, made: &Made) -> PathBuf {
        let file = self.scene.certificates.folder().join(format!("paper-{at}.crt"));
        std::fs::write(&file, made.pem()).unwrap();
        file
    }
}
