//! From the types to JSON.

#[cfg(test)]
mod tests;

use serde::ser::Serialize;

use crate::{Index, Item, Object, Place, Product, Products, Source, Version};

/// How a document is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Without white space
    Compact,
    /// A key on each line, and a line break at the end
    Pretty,
}

/// A value that clients would not read as it is meant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct WriteError {
    /// The value's place.
    pub place: Box<Place>,
    /// What is wrong with it.
    pub problem: String,
}

impl Index {
    /// Returns the document as JSON. The same value results in the same text.
    ///
    /// # Errors
    ///
    /// Fails if `other` contains a key of the format.
    pub fn to_json(&self, layout: Layout) -> Result<String, WriteError> {
        let place = Place::default();
        no_known_key(&place, &self.other, Self::KEYS)?;
        for (name, source) in &self.index {
            no_known_key(&place.entry(name), &source.other, Source::KEYS)?;
        }
        Ok(json(self, layout))
    }
}

impl Products {
    /// Returns the document as JSON. The same value results in the same text.
    ///
    /// # Errors
    ///
    /// Fails for what clients would not read as it is meant: an alias with a comma, a size above [`i64::MAX`], and a key of the
    /// format in `other`.
    pub fn to_json(&self, layout: Layout) -> Result<String, WriteError> {
        let place = Place::default();
        no_known_key(&place, &self.other, Self::KEYS)?;
        for (key, product) in &self.products {
            let place = place.product(key);
            no_known_key(&place, &product.other, Product::KEYS)?;
            // A single empty name would be read as no name at all.
            let lone = product.aliases.len() == 1;
            if let Some(alias) = product
                .aliases
                .iter()
                .find(|alias| alias.contains(',') || lone && alias.is_empty())
            {
                let problem = format!("{alias:?} cannot be an alias: commas separate aliases");
                return Err(place.key("aliases").wrong(problem));
            }
            for (key, version) in &product.versions {
                let place = place.version(key);
                no_known_key(&place, &version.other, Version::KEYS)?;
                for (key, item) in &version.items {
                    let place = place.item(key);
                    no_known_key(&place, &item.other, Item::KEYS)?;
                    if let Some(size) = item.size.filter(|&size| i64::try_from(size).is_err()) {
                        return Err(place.key("size").wrong(format!("{size} is more than clients can read")));
                    }
                }
            }
        }
        Ok(json(self, layout))
    }
}

impl Index {
    const KEYS: &[&str] = &["index", "updated", "format"];
}

impl Source {
    const KEYS: &[&str] = &["datatype", "path", "updated", "products", "format"];
}

impl Products {
    const KEYS: &[&str] = &["content_id", "datatype", "format", "license", "updated", "products"];
}

impl Product {
    const KEYS: &[&str] = &[
        "aliases",
        "arch",
        "os",
        "release",
        "release_codename",
        "release_title",
        "supported",
        "support_eol",
        "version",
        "variant",
        "requirements",
        "lxd_requirements",
        "versions",
    ];
}

impl Version {
    const KEYS: &[&str] = &["items", "label", "pubname"];
}

impl Item {
    const KEYS: &[&str] = &[
        "ftype",
        "path",
        "sha256",
        "size",
        "combined_sha256",
        "combined_rootxz_sha256",
        "combined_squashfs_sha256",
        "combined_disk-kvm-img_sha256",
        "combined_uefi1-img_sha256",
        "combined_disk1-img_sha256",
        "combined_type",
        "delta_base",
        "md5",
    ];
}

fn no_known_key(place: &Place, other: &Object, known: &[&str]) -> Result<(), WriteError> {
    // Clients ignore the case of keys.
    let is_known = |key: &&String| known.iter().any(|known| known.eq_ignore_ascii_case(key));
    match other.keys().find(is_known) {
        Some(key) => Err(place.key(key).wrong("this key has a field of its own".to_owned())),
        None => Ok(()),
    }
}

fn json(document: &impl Serialize, layout: Layout) -> String {
    let text = match layout {
        Layout::Compact => serde_json::to_string(document),
        Layout::Pretty => serde_json::to_string_pretty(document).map(|text| text + "\n"),
    };
    text.expect("keys are strings, and nothing else can fail in memory")
}
