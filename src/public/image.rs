//! An image as it is visible on the public port.
//!
//! Only the fields listed here are visible. A field that Incus adds later stays hidden until it is added here.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fingerprint::FingerprintPrefix;

/// An image as it is visible on the public port. Fields that describe the server instead of the image have neutral
/// values.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Image {
    /// Whether Incus updates the image automatically.
    #[serde(default)]
    pub auto_update: bool,
    /// Properties: free text by key.
    #[serde(default, deserialize_with = "null_is_default")]
    pub properties: BTreeMap<String, String>,
    /// Whether Incus marks the image as public.
    pub public: bool,
    #[serde(default = "never")]
    expires_at: String,
    /// Profile names of this server: not public.
    #[serde(default, skip_deserializing)]
    profiles: [(); 0],
    #[serde(default, deserialize_with = "null_is_default")]
    aliases: Vec<ImageAlias>,
    /// Architecture, as Incus names it.
    pub architecture: String,
    /// Whether the image was downloaded by Incus rather than imported.
    #[serde(default)]
    pub cached: bool,
    /// File name at import.
    #[serde(default)]
    pub filename: String,
    /// Fingerprint: 64 hexadecimal digits.
    #[serde(deserialize_with = "digits")]
    pub fingerprint: String,
    /// Size in bytes.
    pub size: i64,
    /// `container` or `virtual-machine`
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "never")]
    created_at: String,
    /// Time of the last launch on this server: not public.
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

    /// API path of the image.
    pub fn path(&self) -> String {
        format!("/1.0/images/{}", self.fingerprint)
    }

    /// Whether the image is in the default project, the only one that is visible on the public port.
    pub fn is_of_default_project(&self) -> bool {
        self.project == DEFAULT_PROJECT
    }

    /// Name for display: the first alias, else the description, else the fingerprint.
    pub fn name(&self) -> &str {
        let name = self.alias_names().next().or_else(|| self.description());
        name.unwrap_or(&self.fingerprint)
    }

    /// Description from the image's properties.
    pub fn description(&self) -> Option<&str> {
        let description = self.properties.get("description")?;
        (!description.is_empty()).then_some(description)
    }

    /// Day of the upload, such as `2026-11-21`.
    pub fn uploaded_on(&self) -> Option<&str> {
        let (day, _) = self.uploaded_at.split_once('T')?;
        (self.uploaded_at != never()).then_some(day)
    }

    /// Time of the creation, in seconds since 1970.
    pub fn created(&self) -> Option<i64> {
        seconds(&self.created_at)
    }

    /// Time of the expiry, in seconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        seconds(&self.expires_at)
    }

    /// Time of the upload, in seconds since 1970.
    pub fn uploaded(&self) -> Option<i64> {
        seconds(&self.uploaded_at)
    }

    /// Whether both have the same content. The order of aliases does not matter.
    pub fn is_same(&self, other: &Self) -> bool {
        let sorted = |image: &Self| {
            let mut image = image.clone();
            image.aliases.sort_by(|one, other| one.name.cmp(&other.name));
            image
        };
        self == other || sorted(self) == sorted(other)
    }

    /// Names of the image's aliases.
    pub fn alias_names(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(|alias| alias.name.as_str())
    }

    /// The image's aliases as separate API objects.
    pub fn aliases(&self) -> impl Iterator<Item = Alias> {
        self.aliases.iter().map(|alias| Alias {
            description: alias.description.clone(),
            target: self.fingerprint.clone(),
            name: alias.name.clone(),
            kind: self.kind.clone(),
        })
    }
}

/// An alias as a field of an image.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageAlias {
    name: String,
    #[serde(default)]
    description: String,
}

/// An alias as an API object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alias {
    description: String,
    target: String,
    /// Name of the alias.
    pub name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Project whose images are visible on the public port.
pub(super) const DEFAULT_PROJECT: &str = "default";

/// Incus releases without projects for images do not send the field.
fn default_project() -> String {
    DEFAULT_PROJECT.to_owned()
}

/// Parses a time. Go's zero time is none.
fn seconds(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    (text != never()).then(|| time.unix_timestamp())
}

/// Go's zero time, which Incus's clients display as "never".
fn never() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}

/// Rejects malformed fingerprints: they become part of paths, and of commands that users paste into a shell.
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
