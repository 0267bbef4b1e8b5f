//! An Incus with published and hidden data, and the gateway in front of it.

use serde_json::Value;

use super::seen::{Seen, ask};
use testing::images::{Images, Kind};
use testing::incus::Incus;
use testing::scene::Scene;

/// The gateway, Incus, and the fingerprints of the images.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scene: Scene,
    /// Not published. Its fingerprint begins with the same three digits as that of `shadow`.
    pub(crate) private: String,
    /// Names for the lines of the corpus: `{name}`, or its first digits as `{name:12}`, `{name:12:upper}` or
    /// `{name:12:escaped}`.
    names: Vec<(&'static str, String)>,
}

/// Must be in no response.
const HIDDEN: [&str; 12] = [
    "hidden description",
    "hidden-alias",
    "hidden/alias",
    "hidden alias's description",
    "elsewhere",
    "concealed",
    "other-project",
    "hunter2",
    "user.ui",
    "environment",
    "core.https_address",
    "far.test",
];

impl World {
    pub(crate) fn create() -> Self {
        let scene = Scene::start();
        let incus = &scene.incus;
        let images = Images::new();
        let mut names = Vec::new();

        for (name, kind, alias) in [
            ("split", Kind::Split, "split"),
            ("unified", Kind::Unified, "unified"),
            ("slash", Kind::Split, "slash/ed/name"),
            ("colon", Kind::Unified, "colon:v1.0"),
            ("shadow", Kind::Unified, "shadow"),
        ] {
            let image = images.with_fingerprint(kind, name, |_| true);
            image.import(incus, &["--public", "--alias", alias]);
            names.push((name, image.fingerprint));
        }
        let digits_of = |wanted: &str| {
            let (_, fingerprint) = names
                .iter()
                .find(|(name, _)| *name == wanted)
                .expect("it was made above");
            fingerprint[..3].to_owned()
        };
        let (twins, shared) = (digits_of("slash"), digits_of("shadow"));
        let twin = images.with_fingerprint(Kind::Split, "twin", |fingerprint| fingerprint.starts_with(&twins));
        twin.import(incus, &["--public", "--alias", "twin"]);
        let private = images.with_fingerprint(Kind::Split, "hidden description", |other| other.starts_with(&shared));
        private.import(incus, &["--alias", "hidden-alias", "--alias", "hidden/alias"]);
        let private = private.fingerprint;
        let describe = ["--description", "hidden alias's description"];
        incus
            .run(&[&["image", "alias", "create", "hidden-too", &private][..], &describe].concat())
            .ok();

        incus
            .run(&["project", "create", "other-project", "--config=features.images=true"])
            .ok();
        let project = "--project=other-project";
        let elsewhere = images.unified("published elsewhere");
        elsewhere.import(incus, &["--public", "--alias", "elsewhere", project]);
        let concealed = images.unified("concealed elsewhere");
        concealed.import(incus, &["--alias", "concealed", project]);

        names.extend([
            ("far", copied_from_far(incus)),
            ("private", private.clone()),
            ("elsewhere", elsewhere.fingerprint),
            ("concealed", concealed.fingerprint),
            ("shared", shared),
            ("twins", twins),
        ]);
        // Creating an instance from an image sets its last use in Incus.
        incus.run(&["init", "split", "box", "--quiet"]).ok();
        incus.run(&["delete", "box"]).ok();
        incus
            .run(&["config", "set", "loki.auth.username=loki", "loki.auth.password=hunter2"])
            .ok();
        incus.run(&["config", "set", "user.ui.greeting=hello"]).ok();
        scene.refresh();
        Self { scene, private, names }
    }

    /// Puts fingerprints into a line of the corpus.
    pub(crate) fn fill_in(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (name, value) in &self.names {
            line = line.replace(&format!("{{{name}}}"), value);
            let digits = &value[..value.len().min(12)];
            line = line.replace(&format!("{{{name}:12}}"), digits);
            line = line.replace(&format!("{{{name}:12:upper}}"), &digits.to_uppercase());
            let escaped = format!("%{:02x}{}", digits.as_bytes()[0], &digits[1..]);
            line = line.replace(&format!("{{{name}:12:escaped}}"), &escaped);
        }
        assert!(!line.contains('{'), "{line}: unknown name");
        line
    }

    /// Returns Incus's response to a stranger.
    pub(crate) fn incus(&self, line: &str) -> Seen {
        ask(self.scene.incus.address(), line, "")
    }

    /// Returns the published images as Incus shows them.
    pub(crate) fn published(&self) -> Vec<Value> {
        let seen = self.incus("GET /1.0/images?recursion=1");
        seen.metadata().as_array().expect("a list").clone()
    }

    /// Panics if a response contains unpublished data.
    pub(crate) fn assert_discloses_nothing(&self, seen: &Seen) {
        let mut text = String::from_utf8_lossy(&seen.raw).into_owned();
        for fingerprint in self.hidden() {
            // An error message names the complete fingerprint that was requested.
            text = text.replace(&format!("Image \\\"{fingerprint}\\\" not found"), "");
        }
        let parts = self.hidden().map(|fingerprint| &fingerprint[24..]);
        for hidden in HIDDEN.into_iter().chain(parts) {
            assert!(!text.contains(hidden), "{hidden:?} stands in {text}");
        }
    }

    /// Panics unless the requests of the corpus show the hidden data to a trusted client.
    pub(crate) fn assert_incus_would_disclose(&self) {
        let everything: String = [
            "/1.0",
            "/1.0/images?recursion=1&all-projects=true",
            "/1.0/images/aliases?recursion=1",
        ]
        .iter()
        .map(|path| self.scene.incus.run(&["query", path]).ok())
        .collect();
        for hidden in HIDDEN.into_iter().chain(self.hidden()) {
            assert!(everything.contains(hidden), "{hidden:?} is nowhere to be hidden");
        }
    }

    /// Returns the fingerprints that no stranger may see.
    fn hidden(&self) -> impl Iterator<Item = &str> {
        let names = ["private", "elsewhere", "concealed"];
        let hidden = self.names.iter().filter(move |(name, _)| names.contains(name));
        hidden.map(|(_, fingerprint)| fingerprint.as_str())
    }
}

/// Creates an image with a recorded source.
fn copied_from_far(incus: &Incus) -> String {
    let far = Incus::start(&[]);
    let image = Images::new().unified("copied from far");
    image.import(&far, &["--public", "--alias", "far.test"]);
    incus
        .run(&["remote", "add", "far", &far.url(), "--public", "--accept-certificate"])
        .ok();
    let copy = [
        "image",
        "copy",
        "far:far.test",
        "local:",
        "--public",
        "--alias=far",
        "--auto-update",
        "--quiet",
    ];
    incus.run(&copy).ok();
    image.fingerprint
}
