//! The documents, as types.

use indexmap::IndexMap;
use serde::ser::Serializer;

use crate::{Ftype, Hashes, Object};

/// `streams/v1/index.json`: where the lists of products are.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Index {
    /// The lists, by a name that clients ignore.
    pub index: IndexMap<String, Source>,
    /// When it was last changed. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// `index:1.0`. Clients ignore it.
    pub format: String,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// An entry of the [`Index`]: one file with products.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Source {
    /// Clients read only what is `image-downloads`.
    pub datatype: String,
    /// The path of the file below the base URL of the remote, such as `streams/v1/images.json`.
    pub path: String,
    /// When it was last changed. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// The keys of the products. Clients skip an entry without any, and otherwise ignore the names.
    pub products: Vec<String>,
    /// `products:1.0`. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// A file with products, usually `streams/v1/images.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Products {
    /// A name for the content. Clients ignore it.
    pub content_id: String,
    /// `image-downloads`. Clients look at that of the index only.
    pub datatype: String,
    /// `products:1.0`. Clients ignore it.
    pub format: String,
    /// A licence. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// When it was last changed. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// The products, by a key that clients never parse.
    pub products: IndexMap<String, Product>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// What stays the same from one version of an image to the next.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Product {
    /// Names of the newest version. A name cannot contain a comma: in the document, commas separate them.
    #[serde(serialize_with = "comma_separated")]
    pub aliases: Vec<String>,
    /// A name or alias of an [`Architecture`](crate::Architecture). Clients skip a product whose architecture they do not know.
    #[serde(rename = "arch")]
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The release of the operating system.
    pub release: String,
    /// The release's code name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_codename: Option<String>,
    /// The release, as clients show it in the description.
    pub release_title: String,
    /// Whether the release is supported. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported: Option<bool>,
    /// The day when the image expires, as `YYYY-MM-DD`.
    #[serde(rename = "support_eol", skip_serializing_if = "Option::is_none")]
    pub end_of_life: Option<String>,
    /// The release's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The variant, such as `default` or `cloud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What instances need, such as `secureboot: "false"`, for Incus and later LXD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// The same for LXD. Where both are present, each LXD reads this one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lxd_requirements: Option<Requirements>,
    /// The versions, by a key that begins with a date, `YYYYMMDD`. Clients skip versions with any other key.
    pub versions: IndexMap<String, Version>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// What an image needs of its instances: keys such as `secureboot`, with string values.
pub type Requirements = IndexMap<String, String>;

/// One version of an image.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Version {
    /// The files, by a key that clients ignore.
    pub items: IndexMap<String, Item>,
    /// A label, such as `release` or `beta`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A public name. Clients ignore it.
    #[serde(rename = "pubname", skip_serializing_if = "Option::is_none")]
    pub public_name: Option<String>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Item {
    /// What the file is.
    pub ftype: Ftype,
    /// The path below the base URL of the remote.
    pub path: String,
    /// The SHA-256 of the file, in lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// On an item with metadata: the fingerprints.
    #[serde(flatten)]
    pub combined: Hashes,
    /// On a unified image: `virtual-machine`, for Incus 7.0.2 and later. Everything else takes it for a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combined_type: Option<String>,
    /// On a delta: the version of the same product that it applies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_base: Option<String>,
    /// The MD5 of the file. Clients ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Object,
}

/// What clients read as images.
pub(crate) const DATATYPE: &str = "image-downloads";
const PRODUCTS_FORMAT: &str = "products:1.0";

impl Index {
    /// Returns the index of one file with products.
    pub fn of(path: &str, products: &Products) -> Self {
        let source = Source {
            datatype: DATATYPE.to_owned(),
            path: path.to_owned(),
            products: products.products.keys().cloned().collect(),
            format: Some(PRODUCTS_FORMAT.to_owned()),
            ..Source::default()
        };
        Self {
            index: IndexMap::from([("images".to_owned(), source)]),
            format: "index:1.0".to_owned(),
            ..Self::default()
        }
    }
}

impl Products {
    /// Returns a document without products.
    pub fn new() -> Self {
        Self {
            content_id: "images".to_owned(),
            datatype: DATATYPE.to_owned(),
            format: PRODUCTS_FORMAT.to_owned(),
            ..Self::default()
        }
    }
}

fn comma_separated<S: Serializer>(aliases: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&aliases.join(","))
}
