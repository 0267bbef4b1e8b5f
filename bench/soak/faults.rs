//! The faults, one at a time, and the time until service is restored.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::{Site, answered, is_image};
use testing::network::{Disturbed, Slow};
use testing::scene::Setup;
use testing::tls::TlsClient;

/// If service is not restored after this time, the run fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) enum Fault {
    Killed,
    Restarted,
    Stopped,
    Impostor,
    IncusRenewed,
    CutToIncus,
    ResetToIncus,
    LossyToIncus,
    CutToClients,
    LossyToClients,
    Slow,
    Renewed,
    Reloaded,
    WrongConfiguration,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::Killed,
        Self::Restarted,
        Self::Stopped,
        Self::Impostor,
        Self::IncusRenewed,
        Self::CutToIncus,
        Self::ResetToIncus,
        Self::LossyToIncus,
        Self::CutToClients,
        Self::LossyToClients,
        Self::Slow,
        Self::Renewed,
        Self::Reloaded,
        Self::WrongConfiguration,
    ];

    /// Returns whether clients may see errors during the fault. The gateway's own maintenance must not cause any.
    pub(crate) fn excuses(self) -> bool {
        !matches!(self, Self::Renewed | Self::Reloaded | Self::WrongConfiguration)
    }

    fn happens(self, site: &Site, dice: &mut Dice) {
        let for_a_while = dice.time(500, 8000);
        match self {
            Self::Killed => {
                site.incus.kill();
                site.pause(for_a_while);
                site.incus.start_again();
            }
            Self::Restarted => {
                site.incus.stop();
                site.pause(for_a_while);
                site.incus.start_again();
            }
            Self::Stopped => {
                let paused = site.incus.pause();
                site.pause(for_a_while);
                drop(paused);
            }
            Self::Impostor => {
                site.incus.kill();
                stand_in_for(site, dice, for_a_while);
                site.incus.start_again();
            }
            Self::IncusRenewed => {
                site.incus.kill();
                let renewed = site.certificates.server("incus");
                // Overwritten in place, as Incus itself does.
                for (from, to) in [(&renewed.certificate, "server.crt"), (&renewed.key, "server.key")] {
                    let renewed = fs::read(from).expect("the file just made");
                    fs::write(site.incus.variable().join(to), renewed).expect("Incus has a certificate");
                }
                site.incus.start_again();
            }
            Self::CutToIncus => during(site, for_a_while, Disturbed::cut(&to_incus(site))),
            Self::ResetToIncus => during(site, for_a_while, Disturbed::reset(&to_incus(site))),
            Self::LossyToIncus => during(site, for_a_while, Disturbed::lossy(&to_incus(site))),
            Self::CutToClients => during(site, for_a_while, Disturbed::cut(&to_clients(site))),
            Self::LossyToClients => during(site, for_a_while, Disturbed::lossy(&to_clients(site))),
            Self::Slow => during(site, for_a_while, Slow::of("40mbit", 300)),
            Self::Renewed => {
                // In place, as certbot does. For a moment, certificate and key do not match.
                let seen = site.gateway.log().len();
                site.certificates.server_issued_by(&site.authority, "server");
                let line = site
                    .gateway
                    .wait_for_line_after(seen, |line| line.contains(" reloaded"));
                if line.is_none() {
                    site.ledger.wrong("a renewed certificate is not taken".to_owned());
                }
            }
            Self::Reloaded => with_a_guest(site),
            Self::WrongConfiguration => {
                let seen = site.gateway.log().len();
                site.gateway.reconfigure("[tls]\nnonsense = 1\n");
                site.gateway.signal("HUP");
                site.gateway.wait_for_log_after(seen, "nonsense");
                site.gateway.reconfigure(&site.setup.text());
                site.gateway.signal("HUP");
                site.gateway.wait_for_log_after(seen, " reloaded");
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "Incus killed",
            Self::Restarted => "Incus restarted",
            Self::Stopped => "Incus stopped by SIGSTOP",
            Self::Impostor => "something else on Incus's port",
            Self::IncusRenewed => "Incus back with another certificate",
            Self::CutToIncus => "network to Incus cut",
            Self::ResetToIncus => "connections to Incus reset",
            Self::LossyToIncus => "network to Incus loses 5 %",
            Self::CutToClients => "network to clients cut",
            Self::LossyToClients => "network to clients loses 5 %",
            Self::Slow => "all networks slow",
            Self::Renewed => "the gateway's certificate renewed",
            Self::Reloaded => "reload that lets a guest in and out",
            Self::WrongConfiguration => "reload of a wrong configuration",
        })
    }
}

/// Causes faults until the end, separated by calm periods in which nothing may fail.
pub(crate) fn happen(site: &Site, only: &[Fault], calm: u64, mut dice: Dice) {
    while !site.is_done() {
        site.pause(dice.time(1_000, calm * 1_000));
        if site.is_done() {
            return;
        }
        let fault = *dice.pick(only);
        eprintln!("{fault}");
        site.ledger.begin(fault);
        fault.happens(site, &mut dice);
        site.ledger.cause_is_gone();
        wait_for_service(site, fault, &mut dice);
        site.ledger.is_over();
    }
}

/// Waits while the disturbance is in effect. It ends when the argument is dropped.
fn during<T>(site: &Site, time: Duration, _disturbance: T) {
    site.pause(time);
}

/// Waits until strangers and administrators are served again, including the instance.
fn wait_for_service(site: &Site, fault: Fault, dice: &mut Dice) {
    let deadline = Instant::now() + PATIENCE;
    let image = &site.published[0];
    let export = format!("/1.0/images/{}/export", image.fingerprint);
    let everybody = |dice: &mut Dice| {
        is_image(
            &answered(site.public(&export, dice).with(["--max-time", "10"]), &[200])?,
            &image.fingerprint,
        )?;
        let admin = answered(
            site.admin("/1.0/instances/one/state", dice).with(["--max-time", "10"]),
            &[200],
        )?;
        match &admin.json()["metadata"]["status"] {
            status if status == "Running" => Ok(()),
            status => Err(Outcome::Told(format!("the instance is {status}"))),
        }
    };
    loop {
        match everybody(dice) {
            Ok(()) => return,
            Err(outcome) if Instant::now() > deadline => {
                return site
                    .ledger
                    .wrong(format!("no service again after {fault}: {outcome:?}"));
            }
            Err(Outcome::Wrong(why)) => site.ledger.wrong(format!("after {fault}: {why}")),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn to_incus(site: &Site) -> [u16; 1] {
    [site.incus.address().port()]
}

fn to_clients(site: &Site) -> [u16; 2] {
    [site.gateway.public_port(), site.gateway.admin_port()]
}

/// Replaces Incus with another server on the same address.
fn stand_in_for(site: &Site, dice: &mut Dice, time: Duration) {
    let says = match dice.below(3) {
        0 => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        1 => dice.bytes(3000),
        _ => Vec::new(),
    };
    let listener = TcpListener::bind(site.incus.address()).expect("Incus's port is free");
    listener
        .set_nonblocking(true)
        .expect("a socket can be made non-blocking");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let Ok((mut tcp, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                // The client may have closed the connection.
                let _ = tcp.write_all(&says);
                // A server that sends nothing keeps the connection open.
                if says.is_empty() {
                    open.push(tcp);
                }
            }
        });
        site.pause(time);
        done.store(true, Ordering::SeqCst);
    });
}

/// Adds an administrator, and removes them again.
fn with_a_guest(site: &Site) {
    let reload = |setup: &Setup| {
        let seen = site.gateway.log().len();
        site.gateway.reconfigure(&setup.text());
        site.gateway.signal("HUP");
        site.gateway.wait_for_log_after(seen, " reloaded");
    };
    let mut setup = site.setup.clone();
    setup.admins.push(("guest".to_owned(), site.guest.clone()));
    reload(&setup);
    let client = TlsClient::of(&site.guest);
    let mut raw = client.connect(site.gateway.admin()).expect("the admin port is open");
    let is_in = raw.get("/1.0").is_ok_and(|answer| answer.head.status == 200);
    reload(&site.setup);
    let is_out = |status: u16| status == 403;
    let again = client.connect(site.gateway.admin()).and_then(|mut raw| raw.get("/1.0"));
    // Either the open connection was closed, or its next request is rejected.
    let old = raw.get("/1.0").map_or(true, |answer| is_out(answer.head.status));
    if !is_in || !old || !again.is_ok_and(|answer| is_out(answer.head.status)) {
        site.ledger.wrong("a guest was not let in, or stayed".to_owned());
    }
}
