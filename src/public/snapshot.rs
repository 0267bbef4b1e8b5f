//! One state of the published images: what strangers may know, and nothing else.
//!
//! Every field that a stranger can see is named here. What Incus may add one day stays inside until somebody adds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::route::FingerprintPrefix;
use crate::config::Images;

/// An image as strangers see it. What tells of the server rather than of the image is neutral.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Image {
    /// Whether Incus fetches newer versions of it.
    #[serde(default)]
    pub auto_update: bool,
    /// Free text, by key.
    #[serde(default, deserialize_with = "null_is_default")]
    pub properties: BTreeMap<String, String>,
    /// Whether Incus itself would show it to strangers.
    pub public: bool,
    #[serde(default = "never")]
    expires_at: String,
    /// Names of this server's profiles: none of a stranger's business.
    #[serde(default, skip_deserializing)]
    profiles: [(); 0],
    /// The names it goes by.
    #[serde(default, deserialize_with = "null_is_default")]
    pub aliases: Vec<ImageAlias>,
    /// Incus's name of it.
    pub architecture: String,
    /// Whether it was fetched rather than imported.
    #[serde(default)]
    pub cached: bool,
    /// As it was imported.
    #[serde(default)]
    pub filename: String,
    /// 64 hexadecimal digits.
    pub fingerprint: String,
    /// In bytes.
    pub size: i64,
    /// `container` or `virtual-machine`
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "never")]
    created_at: String,
    /// When this server last made an instance of it: none of a stranger's business.
    #[serde(default = "never", skip_deserializing)]
    last_used_at: String,
    #[serde(default = "never")]
    uploaded_at: String,
    /// Always `default`.
    #[serde(default = "default_project")]
    pub project: String,
}

/// A name of an image, within the image.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageAlias {
    name: String,
    #[serde(default)]
    description: String,
}

/// A name of an image, by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alias {
    description: String,
    target: String,
    /// What a client asks for.
    pub name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// What a stranger may know, as of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Whether Incus trusts us. If not, it shows us no more than any stranger, and admins get nothing through us.
    pub is_trusted: bool,
    server: Map<String, Value>,
    /// By fingerprint.
    images: BTreeMap<String, Image>,
    /// By name.
    aliases: BTreeMap<String, Alias>,
}

/// What a prefix leads to.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    /// Several images.
    Many,
    /// Nothing.
    Nothing,
    /// This image alone.
    One(&'a Image),
}

/// The part of Incus's answers that matters.
#[derive(Deserialize)]
struct Sync<T> {
    metadata: T,
}

impl Snapshot {
    /// Takes from Incus's `/1.0` and `/1.0/images?recursion=1`, as a trusted client gets them, what strangers may know.
    pub fn parse(server: &[u8], images: &[u8], shown: Images) -> serde_json::Result<Self> {
        let server: Sync<Map<String, Value>> = serde_json::from_slice(server)?;
        let images: Sync<Vec<Image>> = serde_json::from_slice(images)?;
        let shown = |image: &Image| image.project == DEFAULT_PROJECT && (image.public || shown == Images::All);
        let images: BTreeMap<_, _> = images
            .metadata
            .into_iter()
            .filter(shown)
            .map(|image| (image.fingerprint.clone(), image))
            .collect();
        Ok(Self {
            is_trusted: server.metadata.get("auth").is_some_and(|auth| auth == "trusted"),
            server: cut(server.metadata),
            aliases: images
                .values()
                .flat_map(aliases_of)
                .map(|alias| (alias.name.clone(), alias))
                .collect(),
            images,
        })
    }

    /// Incus's `/1.0`, cut to what its clients need.
    pub fn server(&self) -> &Map<String, Value> {
        &self.server
    }

    /// All images, in the order of their fingerprints. (Incus's own order is another one each time.)
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.values()
    }

    /// The image that a fingerprint or the beginning of one names.
    pub fn find(&self, prefix: &FingerprintPrefix) -> Found<'_> {
        let from = self.images.range(prefix.as_str().to_owned()..);
        let mut matching = from
            .map(|(_, image)| image)
            .take_while(|image| image.fingerprint.starts_with(prefix.as_str()));
        match (matching.next(), matching.next()) {
            (None, _) => Found::Nothing,
            (Some(image), None) => Found::One(image),
            (Some(_), Some(_)) => Found::Many,
        }
    }

    /// All aliases, in the order of their names.
    pub fn aliases(&self) -> impl Iterator<Item = &Alias> {
        self.aliases.values()
    }

    /// The alias of this very name.
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.aliases.get(name)
    }
}

/// `public: true` makes `incus remote add` ask for no trust token, even without `--public`.
fn cut(mut server: Map<String, Value>) -> Map<String, Value> {
    server.retain(|key, _| key.starts_with("api_") || key == "auth_methods");
    server.insert("auth".to_owned(), "untrusted".into());
    server.insert("public".to_owned(), true.into());
    server.insert("config".to_owned(), Map::new().into());
    server
}

fn aliases_of(image: &Image) -> impl Iterator<Item = Alias> {
    image.aliases.iter().map(|alias| Alias {
        description: alias.description.clone(),
        target: image.fingerprint.clone(),
        name: alias.name.clone(),
        kind: image.kind.clone(),
    })
}

const DEFAULT_PROJECT: &str = "default";

/// Releases before projects of images do not name it.
fn default_project() -> String {
    DEFAULT_PROJECT.to_owned()
}

/// Go's zero time, which Incus's clients show as "never".
fn never() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
