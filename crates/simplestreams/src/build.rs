//! From images to products: one product an image, for Incus and LXD.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::date::Date;
use crate::finding::is_sha256;
use crate::{Architecture, Ftype, IndexMap, Item, Product, Products, Requirements, Version};

/// What instances of an image are.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A container
    Container,
    /// A virtual machine
    VirtualMachine,
}

impl Kind {
    /// Returns the name that Incus and LXD use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An image to publish, as Incus describes it, with what only its files tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The SHA-256 of the files one after the other, in lower-case hexadecimal.
    pub fingerprint: String,
    /// What its instances are.
    pub kind: Kind,
    /// A name or alias of an [`Architecture`].
    pub architecture: String,
    /// The properties. `os`, `release`, `version`, `variant`, `label`, `architecture` and `requirements.*` are published, and
    /// the `description` of an image without `release`.
    pub properties: BTreeMap<String, String>,
    /// When the image was made, in seconds since 1970; 0 if that is unknown.
    pub created_at: i64,
    /// When the image was uploaded, in seconds since 1970.
    pub uploaded_at: i64,
    /// When the image expires, in seconds since 1970; 0 for never.
    pub expires_at: i64,
    /// The names. `x/ARCH` publishes `x` too if that is the image's architecture.
    pub aliases: Vec<String>,
    /// The files.
    pub content: Content,
}

/// The files of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// The metadata in a file of its own, beside the root file system or the disk.
    Split {
        /// The archive with `metadata.yaml`.
        metadata: Blob,
        /// The root file system or the disk.
        root: Blob,
        /// What the root is.
        format: RootFormat,
    },
    /// One archive with everything.
    Unified(Blob),
    /// Layers from an OCI registry, which the format cannot express.
    Oci,
}

/// A file: `images/<sha256>.<extension>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    /// The SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// The size in bytes.
    pub size: u64,
    /// The extension without a dot at its begin, such as `tar.xz`. Without one, `incus image export` would crash.
    pub extension: String,
}

/// What the root of a split image is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RootFormat {
    /// A squashfs
    Squashfs,
    /// A tar archive, compressed in any way that Incus knows
    Tar,
    /// A qcow2 disk
    Qcow2,
    /// Anything else, such as a raw disk
    Other(String),
}

/// What [`build`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// The products, in the order of the fingerprints.
    pub products: Products,
    /// What is not among them, in the order of the entries.
    pub omitted: Vec<Omitted>,
}

/// An image or an alias that is not published, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Omitted {
    /// The fingerprint of the image.
    pub fingerprint: String,
    /// The alias if only that is not published.
    pub alias: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// Why an image or an alias is not published.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages show")]
#[non_exhaustive]
pub enum Reason {
    /// An OCI image.
    #[error("simplestreams has no form for OCI images")]
    Oci,
    /// A virtual machine in one file.
    #[error(
        "a virtual machine in one file is a container to Incus before 7.0.2 and to LXD; publish it in two, with `incus publish --format=split`"
    )]
    UnifiedDisk,
    /// A disk or file system of another kind.
    #[error("simplestreams has no form for a {kind} whose root is {format}")]
    Root { kind: Kind, format: String },
    /// An unknown architecture.
    #[error("no client knows the architecture {0:?}")]
    Architecture(String),
    /// A date beyond the year 9999 or before the year 0.
    #[error("the date of the image, {0} seconds after 1970, has no year of four digits")]
    Date(i64),
    /// A malformed hash.
    #[error("{0:?} is no SHA-256 in lower-case hexadecimal")]
    Hash(String),
    /// A unified image is one file, whose hash is the fingerprint.
    #[error("the file's SHA-256 is {0} and not the fingerprint")]
    Mismatch(String),
    /// An extension that makes no plain file name.
    #[error("{0:?} is no extension of a file name")]
    Extension(String),
    /// A size that clients cannot read.
    #[error("the size {0} is more than clients can read")]
    Size(u64),
    /// An alias that cannot be written.
    #[error("an alias of a simplestreams server can neither be empty nor contain a comma")]
    Alias,
    /// An alias, or its form with the architecture, is an alias of another image.
    #[error("clients would read {name:?}, an alias of the image {owner}")]
    AliasTaken { name: String, owner: String },
}

/// Builds the products of these images. The same entries result in the same products.
///
/// Each image is a product of its own, with its fingerprint as key: grouped into one, only the newest image would own the names.
/// Entries with the same fingerprint are one image, with the names of all and whatever else the first one says.
///
/// An alias belongs to one image of each kind and architecture: to the first that has it by itself, or else to the first that
/// has it with its architecture.
pub fn build(entries: &[Entry]) -> Built {
    let mut omitted = Vec::new();
    let mut images: IndexMap<&str, Image<'_>> = IndexMap::new();
    for entry in entries {
        match Image::of(entry) {
            Ok(image) => {
                let known = images.entry(&entry.fingerprint).or_insert(image);
                known.aliases.extend(entry.aliases.iter().map(String::as_str));
            }
            Err(reason) => omitted.push(Omitted {
                fingerprint: entry.fingerprint.clone(),
                alias: None,
                reason,
            }),
        }
    }
    let named = name_images(&images, &mut omitted);
    let mut products = Products::new();
    for (image, Names { aliases, spelling }) in images.values().zip(named) {
        products
            .products
            .insert(image.entry.fingerprint.clone(), image.product(aliases, spelling));
    }
    products.products.sort_unstable_keys();
    Built { products, omitted }
}

/// An entry that can be expressed.
struct Image<'a> {
    entry: &'a Entry,
    architecture: Architecture,
    version_key: String,
    items: IndexMap<String, Item>,
    aliases: Vec<&'a str>,
}

impl<'a> Image<'a> {
    fn of(entry: &'a Entry) -> Result<Self, Reason> {
        let architecture = Architecture::parse(&entry.architecture);
        let architecture = architecture.ok_or_else(|| Reason::Architecture(entry.architecture.clone()))?;
        sha256(&entry.fingerprint)?;
        Ok(Self {
            entry,
            architecture,
            version_key: version_key(entry)?,
            items: items(entry)?,
            aliases: Vec::new(),
        })
    }

    /// Returns the spellings of the architecture, those first that the image itself uses.
    fn spellings(&self) -> impl Iterator<Item = &'static str> {
        let mut spellings: Vec<_> = self.architecture.common_spellings().collect();
        let suffixes = self.aliases.iter().filter_map(|alias| Some(alias.rsplit_once('/')?.1));
        let used: Vec<_> = suffixes
            .chain(self.entry.properties.get("architecture").map(String::as_str))
            .collect();
        let rank = |spelling: &&str| used.iter().position(|used| used == spelling).unwrap_or(used.len());
        spellings.sort_by_key(rank);
        spellings.into_iter()
    }

    /// Returns `x` for its alias `x/ARCH`.
    fn stem(&self, alias: &'a str) -> Option<&'a str> {
        let (stem, suffix) = alias.rsplit_once('/')?;
        (!stem.is_empty() && Architecture::parse(suffix) == Some(self.architecture)).then_some(stem)
    }

    fn product(&self, aliases: Vec<String>, spelling: &str) -> Product {
        let property = |name: &str| {
            self.entry
                .properties
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let mut requirements = Requirements::new();
        for (name, value) in &self.entry.properties {
            if let Some(name) = name.strip_prefix("requirements.") {
                requirements.insert(name.to_owned(), value.clone());
            }
        }
        // An empty one would hide the other from LXD.
        let requirements = (!requirements.is_empty()).then_some(requirements);
        let version = Version {
            items: self.items.clone(),
            label: property("label"),
            ..Version::default()
        };
        let release = property("release");
        Product {
            aliases,
            architecture: spelling.to_owned(),
            os: property("os").unwrap_or_default(),
            release_title: release.clone().or_else(|| property("description")).unwrap_or_default(),
            release: release.unwrap_or_default(),
            end_of_life: (self.entry.expires_at > 0)
                .then(|| end_of_life(self.entry.expires_at))
                .flatten(),
            version: property("version"),
            variant: property("variant"),
            lxd_requirements: requirements.clone(),
            requirements,
            versions: IndexMap::from([(self.version_key.clone(), version)]),
            ..Product::default()
        }
    }
}

/// What clients read as the names of an image.
struct Names {
    aliases: Vec<String>,
    spelling: &'static str,
}

/// Decides the names of each image, so that no client reads a name of one as another's: to each alias, clients add the
/// architecture as the product spells it.
fn name_images(images: &IndexMap<&str, Image<'_>>, omitted: &mut Vec<Omitted>) -> Vec<Names> {
    let mut omit = |image: &Image<'_>, alias: &str, reason| {
        let (fingerprint, alias) = (image.entry.fingerprint.clone(), Some(alias.to_owned()));
        omitted.push(Omitted {
            fingerprint,
            alias,
            reason,
        });
    };
    let key = |image: &Image<'_>, name: &str| (name.to_owned(), image.entry.kind, image.architecture);
    let taken = |name: &str, owner: usize| {
        let owner = images[owner].entry.fingerprint.clone();
        Reason::AliasTaken {
            name: name.to_owned(),
            owner,
        }
    };
    let mut owners: HashMap<_, usize> = HashMap::new();
    for (position, image) in images.values().enumerate() {
        for alias in unique(&image.aliases) {
            if alias.is_empty() || alias.contains(',') {
                omit(image, alias, Reason::Alias);
                continue;
            }
            let owner = *owners.entry(key(image, alias)).or_insert(position);
            if owner != position {
                omit(image, alias, taken(alias, owner));
            }
        }
    }
    let owns =
        |owners: &HashMap<_, usize>, position, name: &str| owners.get(&key(&images[position], name)) == Some(&position);
    let mut all: Vec<Vec<&str>> = Vec::new();
    let explicit = owners.clone();
    for (position, image) in images.values().enumerate() {
        let mut names = Vec::new();
        for alias in unique(&image.aliases).filter(|alias| owns(&explicit, position, alias)) {
            if let Some(stem) = image.stem(alias) {
                owners.entry(key(image, stem)).or_insert(position);
                names.extend(owns(&owners, position, stem).then_some(stem));
            }
            names.push(alias);
        }
        all.push(unique(&names).collect());
    }
    let named = all
        .iter()
        .zip(images.values())
        .enumerate()
        .map(|(position, (names, image))| {
            let clash = |name: &str, spelling: &str| {
                let full = format!("{name}/{spelling}");
                let owner = owners
                    .get(&key(image, &full))
                    .copied()
                    .filter(|&owner| owner != position);
                owner.map(|owner| (full, owner))
            };
            let clashes = |spelling: &&str| names.iter().filter(|name| clash(name, spelling).is_some()).count();
            let spelling = image
                .spellings()
                .min_by_key(clashes)
                .unwrap_or_else(|| image.architecture.name());
            let mut aliases = Vec::new();
            for &name in names {
                if let Some((full, owner)) = clash(name, spelling) {
                    omit(image, name, taken(&full, owner));
                // Clients make this name of another one.
                } else if !names
                    .iter()
                    .any(|other| is_full(name, other, spelling) && clash(other, spelling).is_none())
                {
                    aliases.push(name.to_owned());
                }
            }
            Names { aliases, spelling }
        });
    named.collect()
}

/// Returns whether clients make `name` of `other`.
fn is_full(name: &str, other: &str, spelling: &str) -> bool {
    name.strip_prefix(other).and_then(|rest| rest.strip_prefix('/')) == Some(spelling)
}

fn unique<'a>(names: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut seen = BTreeSet::new();
    names.iter().copied().filter(move |name| seen.insert(*name))
}

fn version_key(entry: &Entry) -> Result<String, Reason> {
    let seconds = if entry.created_at == 0 {
        entry.uploaded_at
    } else {
        entry.created_at
    };
    let Date {
        year,
        month,
        day,
        hour,
        minute,
    } = Date::from_unix(seconds).ok_or(Reason::Date(seconds))?;
    Ok(format!("{year:04}{month:02}{day:02}_{hour:02}{minute:02}"))
}

fn end_of_life(seconds: i64) -> Option<String> {
    let Date { year, month, day, .. } = Date::from_unix(seconds)?;
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

fn items(entry: &Entry) -> Result<IndexMap<String, Item>, Reason> {
    match &entry.content {
        Content::Oci => Err(Reason::Oci),
        Content::Unified(_) if entry.kind == Kind::VirtualMachine => Err(Reason::UnifiedDisk),
        Content::Unified(file) if file.sha256 != entry.fingerprint => Err(Reason::Mismatch(file.sha256.clone())),
        Content::Unified(file) => {
            let ftypes = [Ftype::IncusUnified, Ftype::LxdUnified].into_iter();
            ftypes.map(|ftype| Ok((ftype.to_string(), file.item(ftype)?))).collect()
        }
        Content::Split { metadata, root, format } => {
            let (key, ftype) = match (entry.kind, format) {
                (Kind::Container, RootFormat::Squashfs) => ("root.squashfs", Ftype::Squashfs),
                (Kind::Container, RootFormat::Tar) => ("root.tar.xz", Ftype::RootTar),
                (Kind::VirtualMachine, RootFormat::Qcow2) => ("disk.qcow2", Ftype::DiskKvm),
                (kind, format) => {
                    return Err(Reason::Root {
                        kind,
                        format: format.to_string(),
                    });
                }
            };
            let mut items = IndexMap::new();
            for metadata_ftype in [Ftype::IncusMetadata, Ftype::LxdMetadata] {
                let mut item = metadata.item(metadata_ftype)?;
                item.combined.set_fingerprint(&ftype, &entry.fingerprint);
                items.insert(item.ftype.to_string(), item);
            }
            items.insert(key.to_owned(), root.item(ftype)?);
            Ok(items)
        }
    }
}

impl Blob {
    /// Returns the path below the base URL of the remote.
    pub fn path(&self) -> String {
        format!("images/{}.{}", self.sha256, self.extension)
    }

    fn item(&self, ftype: Ftype) -> Result<Item, Reason> {
        sha256(&self.sha256)?;
        let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !self.extension.split('.').all(is_plain) {
            return Err(Reason::Extension(self.extension.clone()));
        }
        if i64::try_from(self.size).is_err() {
            return Err(Reason::Size(self.size));
        }
        Ok(Item {
            ftype,
            path: self.path(),
            sha256: Some(self.sha256.clone()),
            size: Some(self.size),
            ..Item::default()
        })
    }
}

impl fmt::Display for RootFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Squashfs => "squashfs",
            Self::Tar => "a tar archive",
            Self::Qcow2 => "a qcow2 disk",
            Self::Other(format) => format,
        })
    }
}

fn sha256(text: &str) -> Result<(), Reason> {
    if is_sha256(text) {
        Ok(())
    } else {
        Err(Reason::Hash(text.to_owned()))
    }
}
