//! The documents, as types.

use std::fmt;

use indexmap::IndexMap;
use serde::ser::{Serialize, Serializer};

use crate::{Object, Place};

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

/// The fingerprints of an image for each root file that its metadata can be combined with: the SHA-256 of the metadata file
/// followed by the root file, in lower-case hexadecimal.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Hashes {
    /// With [`Ftype::RootTar`], for clients that do not know the next one.
    #[serde(rename = "combined_sha256", skip_serializing_if = "Option::is_none")]
    pub any: Option<String>,
    /// With [`Ftype::RootTar`].
    #[serde(rename = "combined_rootxz_sha256", skip_serializing_if = "Option::is_none")]
    pub root_tar: Option<String>,
    /// With [`Ftype::Squashfs`].
    #[serde(rename = "combined_squashfs_sha256", skip_serializing_if = "Option::is_none")]
    pub squashfs: Option<String>,
    /// With [`Ftype::DiskKvm`].
    #[serde(rename = "combined_disk-kvm-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk_kvm: Option<String>,
    /// With [`Ftype::DiskUefi1`].
    #[serde(rename = "combined_uefi1-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk_uefi1: Option<String>,
    /// With [`Ftype::Disk1`].
    #[serde(rename = "combined_disk1-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk1: Option<String>,
}

impl Hashes {
    /// Returns the fingerprint that clients take for an image with a root of this type.
    pub fn fingerprint(&self, root: &Ftype) -> Option<&str> {
        fn set(hash: &Option<String>) -> Option<&str> {
            hash.as_deref().filter(|hash| !hash.is_empty())
        }
        match root {
            Ftype::Squashfs => set(&self.squashfs),
            Ftype::RootTar => set(&self.root_tar).or_else(|| set(&self.any)),
            Ftype::DiskKvm => set(&self.disk_kvm),
            Ftype::DiskUefi1 => set(&self.disk_uefi1),
            Ftype::Disk1 => set(&self.disk1),
            _ => None,
        }
    }

    /// Sets the fingerprint of an image with a root of this type. Does nothing for what is not a root.
    pub fn set_fingerprint(&mut self, root: &Ftype, fingerprint: impl Into<String>) {
        let fingerprint = fingerprint.into();
        match root {
            Ftype::Squashfs => self.squashfs = Some(fingerprint),
            Ftype::RootTar => {
                self.any = Some(fingerprint.clone());
                self.root_tar = Some(fingerprint);
            }
            Ftype::DiskKvm => self.disk_kvm = Some(fingerprint),
            Ftype::DiskUefi1 => self.disk_uefi1 = Some(fingerprint),
            Ftype::Disk1 => self.disk1 = Some(fingerprint),
            _ => {}
        }
    }

    /// Returns the key in the document that holds the fingerprint of an image with a root of this type.
    pub fn key(root: &Ftype) -> Option<&'static str> {
        Some(match root {
            Ftype::Squashfs => "combined_squashfs_sha256",
            Ftype::RootTar => "combined_rootxz_sha256",
            Ftype::DiskKvm => "combined_disk-kvm-img_sha256",
            Ftype::DiskUefi1 => "combined_uefi1-img_sha256",
            Ftype::Disk1 => "combined_disk1-img_sha256",
            _ => return None,
        })
    }
}

/// What an [`Item`] is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Ftype {
    /// `incus.tar.xz`: metadata of a split image, for Incus. The file may be compressed in another way.
    IncusMetadata,
    /// `lxd.tar.xz`: metadata of a split image, for LXD
    LxdMetadata,
    /// `incus_combined.tar.gz`: a unified image, for Incus
    IncusUnified,
    /// `lxd_combined.tar.gz`: a unified image, for LXD
    LxdUnified,
    /// `squashfs`: root file system of a container
    Squashfs,
    /// `root.tar.xz`: root file system of a container. The file may be compressed in another way.
    RootTar,
    /// `disk-kvm.img`: qcow2 disk of a virtual machine
    DiskKvm,
    /// `uefi1.img`: qcow2 disk of a virtual machine
    DiskUefi1,
    /// `disk1.img`: qcow2 disk of a virtual machine
    Disk1,
    /// `squashfs.vcdiff`: the difference to another version's root file system
    SquashfsDelta,
    /// `disk-kvm.img.vcdiff`: the difference to another version's disk
    DiskKvmDelta,
    /// Anything else. Clients ignore it.
    Other(String),
}

impl Ftype {
    /// Those with a meaning, in the order in which clients prefer the roots.
    pub const KNOWN: [Self; 11] = [
        Self::IncusMetadata,
        Self::LxdMetadata,
        Self::IncusUnified,
        Self::LxdUnified,
        Self::Squashfs,
        Self::RootTar,
        Self::DiskKvm,
        Self::DiskUefi1,
        Self::Disk1,
        Self::SquashfsDelta,
        Self::DiskKvmDelta,
    ];

    /// Returns the name in the document.
    pub fn as_str(&self) -> &str {
        match self {
            Self::IncusMetadata => "incus.tar.xz",
            Self::LxdMetadata => "lxd.tar.xz",
            Self::IncusUnified => "incus_combined.tar.gz",
            Self::LxdUnified => "lxd_combined.tar.gz",
            Self::Squashfs => "squashfs",
            Self::RootTar => "root.tar.xz",
            Self::DiskKvm => "disk-kvm.img",
            Self::DiskUefi1 => "uefi1.img",
            Self::Disk1 => "disk1.img",
            Self::SquashfsDelta => "squashfs.vcdiff",
            Self::DiskKvmDelta => "disk-kvm.img.vcdiff",
            Self::Other(name) => name,
        }
    }

    /// Returns whether it is metadata of a split image.
    pub fn is_metadata(&self) -> bool {
        matches!(self, Self::IncusMetadata | Self::LxdMetadata)
    }

    /// Returns whether it is a unified image.
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::IncusUnified | Self::LxdUnified)
    }

    /// Returns whether it is the disk of a virtual machine.
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::DiskKvm | Self::DiskUefi1 | Self::Disk1)
    }

    /// Returns whether it is a root file system or a disk.
    pub fn is_root(&self) -> bool {
        self.is_disk() || matches!(self, Self::Squashfs | Self::RootTar)
    }

    /// Returns the type of a difference between two roots of this type.
    pub fn delta(&self) -> Option<Self> {
        match self {
            Self::Squashfs => Some(Self::SquashfsDelta),
            Self::DiskKvm => Some(Self::DiskKvmDelta),
            _ => None,
        }
    }
}

impl From<String> for Ftype {
    fn from(name: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.as_str() == name);
        known.unwrap_or(Self::Other(name))
    }
}

impl Default for Ftype {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl fmt::Display for Ftype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Ftype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn comma_separated<S: Serializer>(aliases: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&aliases.join(","))
}

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
    /// Returns a document without products.
    pub fn new() -> Self {
        Self {
            content_id: "images".to_owned(),
            datatype: DATATYPE.to_owned(),
            format: PRODUCTS_FORMAT.to_owned(),
            ..Self::default()
        }
    }

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

/// What clients read as images.
pub(crate) const DATATYPE: &str = "image-downloads";
const PRODUCTS_FORMAT: &str = "products:1.0";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parsed, Value};

    /// A document with every key of the format and an unknown one at each level.
    const FULL: &str = r#"{
        "content_id": "c", "datatype": "image-downloads", "format": "products:1.0", "license": "l", "updated": "u",
        "products": {"p": {
            "aliases": "a,b", "arch": "amd64", "os": "o", "release": "r", "release_codename": "rc", "release_title": "rt",
            "supported": true, "support_eol": "2030-01-01", "version": "1", "variant": "v", "requirements": {"x": "y"},
            "lxd_requirements": {"x": "y"}, "versions": {"20240101": {"items": {"i": {
                "ftype": "squashfs", "path": "f.x", "sha256": "s", "size": 1, "combined_sha256": "1",
                "combined_rootxz_sha256": "2", "combined_squashfs_sha256": "3", "combined_disk-kvm-img_sha256": "4",
                "combined_uefi1-img_sha256": "5", "combined_disk1-img_sha256": "6", "combined_type": "container",
                "delta_base": "d", "md5": "m", "unknown": 1.5
            }}, "label": "l", "pubname": "p", "unknown": [null, {"z": 1, "a": 2}]}},
            "unknown": -1
        }},
        "unknown": 18446744073709551615
    }"#;
    const FULL_INDEX: &str = r#"{"index": {"e": {"datatype": "image-downloads", "path": "p", "updated": "u",
        "products": ["p"], "format": "f", "unknown": {}}}, "updated": "u", "format": "index:1.0", "unknown": "x"}"#;

    fn read_back(value: &Products, layout: Layout) -> Products {
        let text = value.to_json(layout).unwrap();
        let Parsed { document, deviations } = Products::parse(text.as_bytes()).unwrap();
        assert_eq!(deviations, []);
        document
    }

    #[test]
    fn every_key_and_its_value_survive() {
        let products = Products::parse(FULL.as_bytes()).unwrap();
        assert_eq!(products.deviations, []);
        let written = products.document.to_json(Layout::Compact).unwrap();
        assert_eq!(written, FULL.split_whitespace().collect::<String>());
        for layout in [Layout::Compact, Layout::Pretty] {
            assert_eq!(read_back(&products.document, layout), products.document);
        }
        let index = Index::parse(FULL_INDEX.as_bytes()).unwrap();
        let written = index.document.to_json(Layout::Compact).unwrap();
        assert_eq!(written, FULL_INDEX.split_whitespace().collect::<String>());
    }

    #[test]
    fn the_lists_of_keys_are_complete() {
        let products = Products::parse(FULL.as_bytes()).unwrap().document;
        let keys = |value: &dyn Fn() -> String| {
            let value: Value = serde_json::from_str(&value()).unwrap();
            let Value::Object(object) = value else {
                panic!("{value:?}")
            };
            let keys = object.into_iter().map(|(key, _)| key);
            keys.filter(|key| key != "unknown").collect::<Vec<_>>()
        };
        let product = &products.products["p"];
        let version = &product.versions["20240101"];
        assert_eq!(keys(&|| json(&products, Layout::Compact)), Products::KEYS);
        assert_eq!(keys(&|| json(product, Layout::Compact)), Product::KEYS);
        assert_eq!(keys(&|| json(version, Layout::Compact)), Version::KEYS);
        assert_eq!(keys(&|| json(&version.items["i"], Layout::Compact)), Item::KEYS);
        let index = Index::parse(FULL_INDEX.as_bytes()).unwrap().document;
        assert_eq!(keys(&|| json(&index, Layout::Compact)), Index::KEYS);
        assert_eq!(keys(&|| json(&index.index["e"], Layout::Compact)), Source::KEYS);
    }

    #[test]
    fn what_clients_would_misread_is_not_written() {
        let full = Products::parse(FULL.as_bytes()).unwrap().document;
        let error = |change: &dyn Fn(&mut Product)| {
            let mut products = full.clone();
            change(&mut products.products["p"]);
            products.to_json(Layout::Compact).unwrap_err().to_string()
        };
        let comma = error(&|product| product.aliases = vec!["a,b".to_owned()]);
        assert_eq!(
            comma,
            r#"product "p", key "aliases": "a,b" cannot be an alias: commas separate aliases"#
        );
        let empty = error(&|product| product.aliases = vec![String::new()]);
        assert!(empty.starts_with(r#"product "p", key "aliases": "" cannot"#), "{empty}");
        let size = error(&|product| product.versions[0].items[0].size = Some(1 << 63));
        let place = r#"product "p", version "20240101", item "i", key "size": "#;
        assert_eq!(
            size,
            format!("{place}9223372036854775808 is more than clients can read")
        );
        let twice = error(&|product| {
            product.other.insert("Arch".to_owned(), Value::Null);
        });
        assert_eq!(twice, r#"product "p", key "Arch": this key has a field of its own"#);
    }
}
