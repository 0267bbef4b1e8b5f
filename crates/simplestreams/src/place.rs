//! Places in a document.

use std::fmt;

use crate::WriteError;

/// A place in a document, for messages.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The key of an entry of the index.
    pub entry: Option<String>,
    /// The key of a product.
    pub product: Option<String>,
    /// The key of a version.
    pub version: Option<String>,
    /// The key of an item.
    pub item: Option<String>,
    /// A key of the innermost of these.
    pub key: Option<String>,
}

impl Place {
    pub(crate) fn entry(&self, name: &str) -> Self {
        let entry = Some(name.to_owned());
        Self { entry, ..self.clone() }
    }

    pub(crate) fn product(&self, name: &str) -> Self {
        let product = Some(name.to_owned());
        Self {
            product,
            ..self.clone()
        }
    }

    pub(crate) fn version(&self, name: &str) -> Self {
        let version = Some(name.to_owned());
        Self {
            version,
            ..self.clone()
        }
    }

    pub(crate) fn item(&self, name: &str) -> Self {
        let item = Some(name.to_owned());
        Self { item, ..self.clone() }
    }

    pub(crate) fn key(&self, name: &str) -> Self {
        let key = Some(name.to_owned());
        Self { key, ..self.clone() }
    }

    /// Returns the place of the version: which of its items has the metadata differs from client to client.
    pub(crate) fn without_item(&self) -> Self {
        let (item, key) = (None, None);
        Self {
            item,
            key,
            ..self.clone()
        }
    }

    pub(crate) fn wrong(self, problem: String) -> WriteError {
        let place = Box::new(self);
        WriteError { place, problem }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entry,
            product,
            version,
            item,
            key,
        } = self;
        let named = [
            ("index entry", entry),
            ("product", product),
            ("version", version),
            ("item", item),
            ("key", key),
        ];
        let mut comma = "";
        for (what, name) in named {
            if let Some(name) = name {
                write!(f, "{comma}{what} {name:?}")?;
                comma = ", ";
            }
        }
        if comma.is_empty() {
            f.write_str("document")?;
        }
        Ok(())
    }
}
