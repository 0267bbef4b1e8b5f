//! Random changes of the images of one Incus.

use std::fmt::Debug;

use proptest::prelude::Rng;
use proptest::test_runner::TestRng;
use serde_json::{Value, json};
use testing::images::{Image, Images};
use testing::incus::Incus;

const NAMES: [&str; 8] = [
    "a",
    "b",
    "tool/amd64",
    "tool",
    "crynux-node:v2.6.0",
    "x,y",
    "ä ö",
    "%2e",
];
const OTHER_PROJECT: &str = "other";

/// Images that may be in Incus or not.
pub(crate) struct Library<'a> {
    incus: &'a Incus,
    images: Vec<Image>,
}

impl<'a> Library<'a> {
    pub(crate) fn new(incus: &'a Incus) -> Self {
        incus
            .run(&[
                "project",
                "create",
                OTHER_PROJECT,
                "-c",
                "features.images=true",
                "-c",
                "features.profiles=false",
            ])
            .ok();
        let images = Images::new();
        let make = |number: usize| match number % 2 {
            0 => images.split(&format!("split {number}")),
            _ => images.unified(&format!("unified {number}")),
        };
        Self {
            incus,
            images: (0..6).map(make).collect(),
        }
    }

    /// The fingerprints of all images, in Incus or not.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.images.iter().map(|image| image.fingerprint.clone()).collect()
    }

    /// All names that an image may have.
    pub(crate) fn names(&self) -> [&'static str; 8] {
        NAMES
    }

    /// Makes one change that is possible at the moment, and returns what it was.
    pub(crate) fn change(&self, random: &mut TestRng) -> String {
        loop {
            if let Some(change) = self.try_change(random) {
                return change;
            }
        }
    }

    fn try_change(&self, random: &mut TestRng) -> Option<String> {
        let image = pick(random, &self.images);
        let name = *pick(random, &NAMES);
        let target = &image.fingerprint;
        let path = format!("/1.0/images/{target}");
        let alias = format!("/1.0/images/aliases/{}", escaped(name));
        let short = &target[..12];
        match random.next_u32() % 16 {
            0..=3 => {
                let options: &[&str] = match random.next_u32() % 3 {
                    0 => &[],
                    1 => &["--public"],
                    _ => &["--public", "--project", OTHER_PROJECT],
                };
                let mut command = self.incus.command();
                command
                    .args(["image", "import", "--quiet"])
                    .args(&image.files)
                    .args(options);
                let imported = testing::run::run(&mut command);
                imported.status.success().then(|| format!("import {short} {options:?}"))
            }
            4..=6 => {
                let is_public = random.next_u32() % 3 < 2;
                self.query("PATCH", &path, &json!({"public": is_public}))?;
                Some(format!("{short} public={is_public}"))
            }
            7 => {
                self.query("DELETE", &path, &Value::Null)?;
                Some(format!("delete {short}"))
            }
            8..=10 => {
                self.query("POST", "/1.0/images/aliases", &json!({"name": name, "target": target}))?;
                Some(format!("alias {name} of {short}"))
            }
            11 => {
                self.query("PUT", &alias, &json!({"target": target, "description": ""}))?;
                Some(format!("alias {name} now of {short}"))
            }
            12 => {
                let new = *pick(random, &NAMES);
                self.query("POST", &alias, &json!({"name": new}))?;
                Some(format!("alias {name} renamed to {new}"))
            }
            13 => {
                self.query("DELETE", &alias, &Value::Null)?;
                Some(format!("delete alias {name}"))
            }
            14 => {
                let value = format!("v{}", random.next_u32());
                self.query(
                    "PATCH",
                    &path,
                    &json!({"properties": {"serial": value}, "expires_at": "2001-02-03T04:05:06Z"}),
                )?;
                Some(format!("{short} serial={value}, expired"))
            }
            _ => {
                // Takes more than a second.
                if random.next_u32() % 3 < 2 {
                    return None;
                }
                match random.next_u32() % 2 {
                    0 => self.incus.stop(),
                    _ => self.incus.kill(),
                }
                self.incus.start_again();
                Some("restart".to_owned())
            }
        }
    }

    /// Sends a request as root. `None` if Incus rejects it, because nothing is there to be changed, for example.
    fn query(&self, method: &str, path: &str, body: &Value) -> Option<()> {
        let body = body.to_string();
        let output = self.incus.run(&["query", "--wait", "-X", method, "-d", &body, path]);
        output.status.success().then_some(())
    }
}

fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn pick<'a, T: Debug>(random: &mut TestRng, list: &'a [T]) -> &'a T {
    &list[random.next_u32() as usize % list.len()]
}
