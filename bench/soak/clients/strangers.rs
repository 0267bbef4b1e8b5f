//! Clients that use the public images.

use std::fs;

use super::{Deed, Done, holds};
use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::{Site, answered, incus, is_image, ok};
use testing::client::Client;
use testing::images::sha256_of;

#[derive(Debug)]
pub(super) struct Stranger(Client);

impl Stranger {
    pub(super) fn new(site: &Site) -> Self {
        Self(site.client(false))
    }
}

pub(super) const DEEDS: [Deed<Stranger>; 7] = [
    ("download", download),
    ("download", download),
    ("list", list),
    ("part of a download", part),
    ("slow download", slow_download),
    ("incus image export", export),
    ("incus image list and info", client_list),
];

/// Reads the list. It stays available while Incus is down, so only a network fault excuses an error.
fn list(site: &Site, _: &Stranger, dice: &mut Dice) -> Done {
    let answer = answered(site.public("/1.0/images?recursion=1", dice), &[200])?;
    let listed = answer.json();
    let listed = listed["metadata"].as_array().map_or(&[][..], Vec::as_slice);
    let is_listed = |fingerprint: &str| listed.iter().any(|image| image["fingerprint"] == fingerprint);
    for image in &site.published {
        holds(is_listed(&image.fingerprint), || {
            format!("{} is not listed", image.alias)
        })?;
    }
    holds(!is_listed(&site.private.fingerprint), || {
        "a private image is listed".to_owned()
    })
}

fn download(site: &Site, _: &Stranger, dice: &mut Dice) -> Done {
    let image = site.some_image(dice);
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let answer = answered(site.public(&path, dice), &[200])?;
    is_image(&answer, &image.fingerprint)
}

fn slow_download(site: &Site, _: &Stranger, dice: &mut Dice) -> Done {
    // A megabyte at 200 kB per second: long enough for a fault to interfere.
    let image = &site.published[1];
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let curl = site.public(&path, dice).with(["--limit-rate", "200k"]);
    is_image(&answered(curl, &[200])?, &image.fingerprint)
}

fn part(site: &Site, _: &Stranger, dice: &mut Dice) -> Done {
    let whole = site
        .published
        .iter()
        .filter(|image| image.bytes.is_some())
        .collect::<Vec<_>>();
    let image = dice.pick(&whole);
    let bytes = image.bytes.as_deref().unwrap_or_default();
    let from = dice.below(bytes.len());
    let to = from + dice.below(bytes.len() - from);
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let curl = site.public(&path, dice).header(&format!("Range: bytes={from}-{to}"));
    let answer = answered(curl, &[206])?;
    holds(answer.body == bytes[from..=to], || {
        format!("bytes {from} to {to} are {} others", answer.body.len())
    })
}

fn export(site: &Site, stranger: &Stranger, dice: &mut Dice) -> Done {
    let image = site.some_image(dice);
    let into = stranger.0.home().join("export");
    fs::create_dir_all(&into).map_err(|error| Outcome::Wrong(error.to_string()))?;
    let from = format!("gate:{}", image.alias);
    let exported = ok(incus(
        &stranger.0,
        &["image", "export", &from, &format!("{}/", into.display()), "--quiet"],
    ));
    let files = fs::read_dir(&into).map_err(|error| Outcome::Wrong(error.to_string()))?;
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    // The metadata file `meta-…` precedes the root file system.
    files.sort_by_key(|path| {
        !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("meta-"))
    });
    let found = sha256_of(&files);
    let removed = fs::remove_dir_all(&into);
    exported?;
    removed.map_err(|error| Outcome::Wrong(error.to_string()))?;
    holds(found == image.fingerprint, || {
        format!("{files:?} are {found}, not {}", image.fingerprint)
    })
}

fn client_list(site: &Site, stranger: &Stranger, dice: &mut Dice) -> Done {
    let image = site.some_image(dice);
    let listed = ok(incus(&stranger.0, &["image", "list", "gate:", "--format", "json"]))?;
    holds(listed.contains(&image.fingerprint), || format!("not listed: {listed}"))?;
    let info = ok(incus(&stranger.0, &["image", "info", &format!("gate:{}", image.alias)]))?;
    holds(info.contains(&image.fingerprint), || format!("not told of: {info}"))
}
