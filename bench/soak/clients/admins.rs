//! Administrators who manage Incus remotely. A confirmed change must persist, whatever faults occur.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::{Deed, Done, holds};
use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::{INSTANCE, Site, answered, bounded, incus, incus_reading, is_image, ok};
use testing::client::{Answer, Client};
use testing::images::{Images, Kind, sha256};
use testing::run::signal;

/// How long to retry until no fault interferes.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(super) struct Admin {
    client: Client,
    number: u64,
}

impl Admin {
    pub(super) fn new(site: &Site, number: u64) -> Self {
        site.incus.run(&["profile", "create", "--quiet", &profile(number)]).ok();
        Self {
            client: site.client(true),
            number,
        }
    }
}

pub(super) const DEEDS: [Deed<Admin>; 8] = [
    ("incus image import and delete", import),
    ("incus exec", exec),
    ("incus exec", exec),
    ("incus file push and pull", files),
    ("incus profile set and get", set),
    ("incus monitor", monitor),
    ("download by an admin", download),
    ("incus list", list),
];

fn list(_: &Site, admin: &Admin, _: &mut Dice) -> Done {
    let listed = ok(incus(&admin.client, &["list", "gate:", "--format", "json"]))?;
    let listed: serde_json::Value = serde_json::from_str(&listed).map_err(|error| Outcome::Wrong(error.to_string()))?;
    holds(listed[0]["name"] == "one", || format!("no instance: {listed}"))
}

fn download(site: &Site, _: &Admin, dice: &mut Dice) -> Done {
    let image = site.some_image(dice);
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    is_image(&answered(site.admin(&path, dice), &[200])?, &image.fingerprint)
}

fn exec(_: &Site, admin: &Admin, dice: &mut Dice) -> Done {
    let size = 1 + dice.below(1 << 20);
    let input = dice.bytes(size);
    let output = incus_reading(&admin.client, &["exec", INSTANCE, "--", "cat"], &input)?;
    holds(output == input, || {
        format!("of {} bytes came {}, or others", input.len(), output.len())
    })
}

fn files(_: &Site, admin: &Admin, dice: &mut Dice) -> Done {
    let size = 1 + dice.below(2 << 20);
    let bytes = dice.bytes(size);
    let (from, to) = (admin.client.home().join("pushed"), admin.client.home().join("pulled"));
    fs::write(&from, &bytes).map_err(|error| Outcome::Wrong(error.to_string()))?;
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    let inside = format!("{INSTANCE}/tmp/file-{}", admin.number);
    ok(incus(&admin.client, &["file", "push", "--quiet", &from, &inside]))?;
    ok(incus(&admin.client, &["file", "pull", "--quiet", &inside, &to]))?;
    let pulled = fs::read(&*to).map_err(|error| Outcome::Wrong(error.to_string()))?;
    holds(pulled == bytes, || {
        format!("of {} bytes came {}, or others", bytes.len(), pulled.len())
    })
}

/// Changes a profile. Each administrator has one, because Incus rejects an update of a profile that was changed meanwhile.
fn set(_: &Site, admin: &Admin, dice: &mut Dice) -> Done {
    let profile = format!("gate:{}", profile(admin.number));
    let value = dice.next().to_string();
    ok(incus(
        &admin.client,
        &["profile", "set", &profile, &format!("user.soak={value}")],
    ))?;
    let found = ok(incus(&admin.client, &["profile", "get", &profile, "user.soak"]))?;
    holds(found.trim() == value, || format!("{value} was set, {found} is there"))
}

fn profile(number: u64) -> String {
    format!("soak{number}")
}

/// Imports and deletes an image. After the confirmed import it must be there unchanged, after the deletion it must be gone.
fn import(site: &Site, admin: &Admin, dice: &mut Dice) -> Done {
    let kind = *dice.pick(&[Kind::Split, Kind::Unified]);
    let image = Images::new().random(kind, "imported", 1 + dice.below(5) as u64);
    let fingerprint = &image.fingerprint;
    let mut arguments = vec![
        "image".to_owned(),
        "import".to_owned(),
        "--quiet".to_owned(),
        "--public".to_owned(),
    ];
    arguments.extend(image.files.iter().map(|file| file.display().to_string()));
    arguments.push("gate:".to_owned());
    if let Err(outcome) = ok(incus(&admin.client, &arguments)) {
        // The import may have succeeded despite the error.
        let _ = incus(&admin.client, &["image", "delete", &format!("gate:{fingerprint}")]);
        return Err(outcome);
    }
    let export = format!("/1.0/images/{fingerprint}/export");
    // When Incus is slow, as on a busy machine, the public list may be older than usual.
    let answer = in_the_end(site, || match answered(site.public(&export, dice), &[200, 404])? {
        answer if answer.status == 404 => Err(Outcome::Told("a confirmed import is lost".to_owned())),
        answer => Ok(answer),
    })?;
    is_image(&answer, fingerprint)?;
    ok(incus(
        &admin.client,
        &["image", "delete", &format!("gate:{fingerprint}")],
    ))?;
    let path = format!("/1.0/images/{fingerprint}");
    let answer = in_the_end(site, || answered(site.admin(&path, dice), &[200, 404]))?;
    holds(answer.status == 404, || "what was deleted is there again".to_owned())
}

/// Repeats a request until no fault interferes.
fn in_the_end(site: &Site, mut ask: impl FnMut() -> Result<Answer, Outcome>) -> Result<Answer, Outcome> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(Outcome::Told(_)) if Instant::now() < deadline => site.pause(Duration::from_secs(1)),
            other => return other,
        }
    }
}

/// Checks that events reach a client that listens for them.
fn monitor(site: &Site, admin: &Admin, dice: &mut Dice) -> Done {
    let alias = format!("event-{}", sha256(&[&dice.bytes(16)]));
    let mut command = bounded(&admin.client);
    let command = command.args(["monitor", "gate:", "--type", "lifecycle", "--format", "json"]);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Outcome::Wrong(error.to_string()))?;
    let events = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let (tell, told) = channel();
    thread::spawn(move || {
        // Each event is followed by an empty line.
        for line in events.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
            // The receiver may have been dropped.
            let _ = tell.send(line);
        }
    });
    let seen = (|| {
        let fingerprint = site.some_image(dice).fingerprint.as_str();
        let name = format!("gate:{alias}");
        // Events before the client listens are lost.
        for _ in 0..20 {
            ok(incus(&admin.client, &["image", "alias", "create", &name, fingerprint]))?;
            ok(incus(&admin.client, &["image", "alias", "delete", &name]))?;
            while let Ok(line) = told.recv_timeout(Duration::from_millis(500)) {
                serde_json::from_str::<serde_json::Value>(&line)
                    .map_err(|error| Outcome::Wrong(format!("{error}: {line}")))?;
                if line.contains(&alias) {
                    return Ok(());
                }
            }
        }
        Err(Outcome::Told("no event came".to_owned()))
    })();
    // The client ends on its own only if its connection breaks.
    signal(child.id(), "TERM");
    child.wait().map_err(|error| Outcome::Wrong(error.to_string()))?;
    seen
}
