//! An image as strangers see it.
//!
//! Every field that a stranger can see is named here. What Incus may add one day stays inside until somebody adds it.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Serialize};

use super::fingerprint::FingerprintPrefix;

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
    #[serde(default, deserialize_with = "null_is_default")]
    aliases: Vec<ImageAlias>,
    /// Incus's name of it.
    pub architecture: String,
    /// Whether it was fetched rather than imported.
    #[serde(default)]
    pub cached: bool,
    /// As it was imported.
    #[serde(default)]
    pub filename: String,
    /// 64 hexadecimal digits.
    #[serde(deserialize_with = "digits")]
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

impl Image {
    /// Returns what a search looks at, in lower case.
    pub fn searchable_text(&self) -> String {
        let mut text = format!(
            "{}\n{}\n{}\n{}",
            self.fingerprint,
            self.architecture,
            self.kind_name(),
            self.uploaded_on().unwrap_or_default()
        );
        let names = self.alias_names().chain(self.properties.values().map(String::as_str));
        for name in names {
            text.push('\n');
            text.push_str(name);
        }
        text.to_lowercase()
    }

    /// Returns its type as people write it.
    pub fn kind_name(&self) -> &'static str {
        if self.is_virtual_machine() {
            "virtual machine"
        } else {
            "container"
        }
    }

    /// Returns whether it is a virtual machine's.
    pub fn is_virtual_machine(&self) -> bool {
        self.kind == "virtual-machine"
    }

    /// Where it is.
    pub fn path(&self) -> String {
        format!("/1.0/images/{}", self.fingerprint)
    }

    /// Whether it is one of the project that strangers may ask about.
    pub fn is_of_default_project(&self) -> bool {
        self.project == DEFAULT_PROJECT
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        let name = self.alias_names().next().or_else(|| self.description());
        name.unwrap_or(&self.fingerprint)
    }

    /// What it says of itself.
    pub fn description(&self) -> Option<&str> {
        let description = self.properties.get("description")?;
        (!description.is_empty()).then_some(description)
    }

    /// The day it came here, as in `2026-11-21`.
    pub fn uploaded_on(&self) -> Option<&str> {
        let (day, _) = self.uploaded_at.split_once('T')?;
        (self.uploaded_at != never()).then_some(day)
    }

    /// Its names, as clients ask for them.
    pub fn alias_names(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(|alias| alias.name.as_str())
    }

    /// Its names, each by itself.
    pub fn aliases(&self) -> impl Iterator<Item = Alias> {
        self.aliases.iter().map(|alias| Alias {
            description: alias.description.clone(),
            target: self.fingerprint.clone(),
            name: alias.name.clone(),
            kind: self.kind.clone(),
        })
    }
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

const DEFAULT_PROJECT: &str = "default";

/// Releases before projects of images do not name it.
fn default_project() -> String {
    DEFAULT_PROJECT.to_owned()
}

/// Go's zero time, which Incus's clients show as "never".
fn never() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}

/// It becomes a part of paths, and of commands that people paste into a shell.
fn digits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match FingerprintPrefix::is(&text) {
        true => Ok(text),
        false => Err(D::Error::custom("a fingerprint has 1 to 64 digits of 0-9a-f")),
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
