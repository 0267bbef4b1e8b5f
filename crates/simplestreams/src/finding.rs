//! Why clients do not see an image, or cannot use it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::model::DATATYPE;
use crate::{Deviation, Families, Family, Index, Item, Parsed, Place, Product, Products, Requirements, Source, View};

/// Something in a document that clients do not read as it is meant.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
    /// The clients that are affected.
    pub families: Families,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// An image is listed that cannot be used, or nothing is listed at all.
    Broken,
    /// An image is not listed.
    Hidden,
    /// It works, but probably not as it is meant.
    Doubtful,
}

/// What clients do not read as it is meant.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages show")]
#[non_exhaustive]
pub enum Problem {
    /// A value has another type than clients expect.
    #[error("{0}; one such value hides every image of the remote")]
    Undecodable(String),
    /// A key or a value is written in an unusual way that clients understand.
    #[error("{0}")]
    Unusual(String),
    /// Clients do not know the architecture.
    #[error("unknown architecture {0:?}; clients skip the product")]
    Architecture(String),
    /// A version's key does not begin with a date.
    #[error("the key of a version must begin with a date, YYYYMMDD; clients skip the version")]
    VersionKey,
    /// No item has metadata for these clients.
    #[error("no item with metadata for these clients; they skip the version")]
    NoMetadata,
    /// Chance decides which of several metadata items a client takes.
    #[error("these clients take either this metadata or that of item {0:?}, by chance, and skip the other")]
    MetadataUndecided(String),
    /// There is metadata without a root.
    #[error("metadata, but no root file system or disk beside it; clients skip it")]
    NoRoot,
    /// The key with the fingerprint is missing.
    #[error("{0:?} is missing, from which clients take the fingerprint; they skip the image")]
    NoFingerprint(&'static str),
    /// A path is missing.
    #[error("the path is missing; clients skip the image")]
    NoPath,
    /// A fingerprint is not a SHA-256 in lower case.
    #[error(
        "{0:?} is no fingerprint: 64 hexadecimal digits in lower case; clients that verify it refuse the image, and less than 12 make `image list` crash"
    )]
    Fingerprint(String),
    /// Two images have the same fingerprint.
    #[error("{other} has the same fingerprint; clients find more than one match and take neither")]
    FingerprintTwice { other: Place },
    /// The same files have two fingerprints.
    #[error("the same files have the fingerprint {other} elsewhere; clients that verify it refuse one of the two")]
    FingerprintsDiffer { other: String },
    /// A file's hash is missing or malformed.
    #[error("the file's SHA-256 is missing, or is not 64 hexadecimal digits in lower case; downloads fail")]
    Hash,
    /// A file's size is missing.
    #[error("the file's size is missing or 0; clients that stop reading there get an empty file")]
    Size,
    /// One path is two different files.
    #[error("{other} has another hash or size for the same path; one of the two downloads fails")]
    PathTwice { other: Place },
    /// A path is a URL.
    #[error("clients take the URL {0:?} for a path below the remote's own URL; downloads fail")]
    PathUrl(String),
    /// A path begins with a slash.
    #[error("clients take {0:?} for a path below the remote's own URL, in spite of the slash")]
    PathRooted(String),
    /// A path has components that clients resolve.
    #[error("clients resolve {0:?} before they ask for it")]
    PathDots(String),
    /// A path has a character that clients encode differently.
    #[error("clients do not agree on how to encode {character:?} in {path:?}")]
    PathCharacter { character: char, path: String },
    /// A file's name has no dot.
    #[error("the file name of {0:?} has no dot; `incus image export` crashes")]
    PathDotless(String),
    /// A unified image is a virtual machine.
    #[error("these clients take every unified image for a container; publish the virtual machine as two files")]
    UnifiedDisk,
    /// A delta's base does not exist.
    #[error(
        "no version of this product has the metadata and the fingerprint that the delta applies to; clients ignore it"
    )]
    DeltaBase,
    /// A delta between disks.
    #[error("these clients apply the disk's delta to the container of the same version; downloads fail")]
    DiskDelta,
    /// An alias is empty, or has white space at an end.
    #[error("the alias is {0:?}, with its spaces: clients split at commas and trim nothing")]
    AliasSpace(String),
    /// An alias belongs to another image.
    #[error("the alias {alias:?} belongs to {owner}, which clients sort before this one")]
    AliasTaken { alias: String, owner: Place },
    /// Chance decides to which image an alias belongs.
    #[error("the alias {alias:?} belongs to this one or to {other} by chance: clients have no order for the two")]
    AliasUndecided { alias: String, other: Place },
    /// A requirement that clients do not know.
    #[error("no client knows the requirement {0:?}")]
    Requirement(String),
    /// Requirements that these clients do not read.
    #[error("these clients do not read the requirement {0:?} where it stands; write it in both keys")]
    RequirementUnread(String),
    /// An end of life that is no date.
    #[error("{0:?} is no date, YYYY-MM-DD; clients ignore it")]
    EndOfLife(String),
    /// An entry of the index that clients skip because of its type.
    #[error("the datatype is {0:?} and not \"image-downloads\"; clients skip the entry")]
    Datatype(String),
    /// An entry of the index that clients skip because it names no product.
    #[error("the entry names no products; clients skip it")]
    NoProducts,
    /// Two files that clients cache under one name.
    #[error("clients cache the file under the same name as that of {other}, and read one for both")]
    CachedTwice { other: Place },
}

impl Problem {
    /// Returns how bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Undecodable(_)
            | Self::Fingerprint(_)
            | Self::FingerprintTwice { .. }
            | Self::FingerprintsDiffer { .. }
            | Self::Hash
            | Self::Size
            | Self::PathTwice { .. }
            | Self::PathUrl(_)
            | Self::PathDotless(_)
            | Self::UnifiedDisk
            | Self::DiskDelta
            | Self::CachedTwice { .. } => Severity::Broken,
            Self::Architecture(_)
            | Self::VersionKey
            | Self::NoMetadata
            | Self::NoRoot
            | Self::NoFingerprint(_)
            | Self::NoPath
            | Self::Datatype(_)
            | Self::NoProducts => Severity::Hidden,
            Self::Unusual(_)
            | Self::PathRooted(_)
            | Self::PathDots(_)
            | Self::PathCharacter { .. }
            | Self::DeltaBase
            | Self::MetadataUndecided(_)
            | Self::AliasSpace(_)
            | Self::AliasTaken { .. }
            | Self::AliasUndecided { .. }
            | Self::Requirement(_)
            | Self::RequirementUnread(_)
            | Self::EndOfLife(_) => Severity::Doubtful,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            problem,
            families,
        } = self;
        write!(f, "{place}: {problem} ({families})")
    }
}

/// Returns everything in the files of a remote that clients do not read as it is meant, in the order of the places. It looks at
/// the documents only, not at the images.
pub fn check(files: &[&Parsed<Products>]) -> Vec<Finding> {
    let mut found = Findings::default();
    for file in files {
        found.deviations(&file.deviations);
    }
    found.paths(files);
    // By the hashes of the files, then by the fingerprint.
    let mut fingerprints: BTreeMap<_, BTreeMap<String, (Place, Families)>> = BTreeMap::new();
    for family in Family::ALL {
        let view = View::of(family, files);
        for (place, problem) in view.problems {
            found.add(place, problem, family.into());
        }
        for image in view.images {
            let parts: Vec<_> = image.files.into_iter().take(2).map(|file| file.sha256).collect();
            if parts.iter().all(Option::is_some) {
                let same = fingerprints.entry(parts).or_default();
                let (_, families) = same.entry(image.fingerprint).or_insert((image.place, Families::NONE));
                *families = *families | family.into();
            }
        }
    }
    for same in fingerprints.values() {
        for (fingerprint, (place, families)) in same {
            if let Some(other) = same.keys().find(|other| *other != fingerprint) {
                let other = other.clone();
                found.add(place.clone(), Problem::FingerprintsDiffer { other }, *families);
            }
        }
    }
    found.into_sorted()
}

impl Index {
    /// Returns the entries that clients read, with their names.
    pub fn read_by_clients(&self) -> impl Iterator<Item = (&str, &Source)> {
        let read = self.index.iter();
        let read = read.filter(|(_, source)| source.datatype == DATATYPE && !source.products.is_empty());
        read.map(|(name, source)| (name.as_str(), source))
    }
}

/// Returns everything in an index that clients do not read as it is meant.
pub fn check_index(index: &Parsed<Index>) -> Vec<Finding> {
    let mut found = Findings::default();
    found.deviations(&index.deviations);
    for (name, source) in &index.document.index {
        let place = Place::default().entry(name);
        if source.datatype != DATATYPE {
            found.add(
                place.key("datatype"),
                Problem::Datatype(source.datatype.clone()),
                Families::ALL,
            );
        } else if source.products.is_empty() {
            found.add(place.key("products"), Problem::NoProducts, Families::ALL);
        }
    }
    let mut cached = HashMap::from([(basename(INDEX), (Place::default(), INDEX))]);
    for (name, source) in index.document.read_by_clients() {
        let place = Place::default().entry(name);
        for problem in path_problems(&source.path) {
            found.add(place.key("path"), problem, Families::ALL);
        }
        let (other, path) = cached
            .entry(basename(&source.path))
            .or_insert_with(|| (place.clone(), &source.path));
        if *path != source.path {
            let other = other.clone();
            found.add(place.key("path"), Problem::CachedTwice { other }, Families::ALL);
        }
    }
    found.into_sorted()
}

/// The path of the index below the base URL of each remote.
pub const INDEX: &str = "streams/v1/index.json";

#[derive(Default)]
struct Findings(BTreeMap<(Place, Problem), Families>);

impl Findings {
    fn add(&mut self, place: Place, problem: Problem, families: Families) {
        let all = self.0.entry((place, problem)).or_default();
        *all = *all | families;
    }

    fn deviations(&mut self, deviations: &[Deviation]) {
        for Deviation { place, problem, stops } in deviations {
            let problem = problem.clone();
            if stops.is_empty() {
                self.add(place.clone(), Problem::Unusual(problem), Families::ALL);
            } else {
                self.add(place.clone(), Problem::Undecodable(problem), *stops);
            }
        }
    }

    fn paths(&mut self, files: &[&Parsed<Products>]) {
        let mut seen = HashMap::new();
        let products = files.iter().flat_map(|file| &file.document.products);
        for (key, product) in products {
            for (version_key, version) in &product.versions {
                for (item_key, item) in version.items.iter().filter(|(_, item)| !item.path.is_empty()) {
                    let place = Place::default().product(key).version(version_key).item(item_key);
                    let content = (&item.sha256, item.size);
                    let (first, other) = seen.entry(&item.path).or_insert_with(|| (content, place.clone()));
                    if *first != content {
                        let other = other.clone();
                        self.add(place.key("path"), Problem::PathTwice { other }, Families::ALL);
                    }
                }
            }
        }
    }

    fn into_sorted(self) -> Vec<Finding> {
        let findings = self.0.into_iter();
        let findings = findings.map(|((place, problem), families)| Finding {
            place,
            problem,
            families,
        });
        findings.collect()
    }
}

/// Returns what is wrong with a file, and the key that shows it.
pub(crate) fn file_problems(family: Family, item: &Item) -> impl Iterator<Item = (&'static str, Problem)> {
    let hash = item.sha256.as_deref().is_some_and(is_sha256);
    let size = item.size.is_some_and(|size| size != 0) || family != Family::Lxd;
    let hash = (!hash).then_some(("sha256", Problem::Hash));
    let size = (!size).then_some(("size", Problem::Size));
    let path = path_problems(&item.path).into_iter().map(|problem| ("path", problem));
    hash.into_iter().chain(size).chain(path)
}

fn path_problems(path: &str) -> Vec<Problem> {
    let text = || path.to_owned();
    let mut problems = Vec::new();
    if path.contains("://") {
        return vec![Problem::PathUrl(text())];
    }
    let relative = path.strip_prefix('/').unwrap_or(path);
    if relative.len() != path.len() {
        problems.push(Problem::PathRooted(text()));
    }
    if relative
        .split('/')
        .any(|component| matches!(component, "" | "." | ".."))
    {
        problems.push(Problem::PathDots(text()));
    }
    let is_plain = |character: char| character.is_ascii_graphic() && !matches!(character, '%' | '?' | '#' | '\\');
    if let Some(character) = path.chars().find(|&character| !is_plain(character)) {
        problems.push(Problem::PathCharacter {
            character,
            path: text(),
        });
    }
    if !basename(path).contains('.') {
        problems.push(Problem::PathDotless(text()));
    }
    problems
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The requirements that any client knows.
const REQUIREMENTS: [&str; 6] = [
    "cdrom_agent",
    "cdrom_cloud_init",
    "cgroup",
    "nesting",
    "privileged",
    "secureboot",
];

/// Returns what is wrong with a product's requirements for clients that read `read`.
pub(crate) fn requirement_problems<'a>(
    product: &'a Product,
    read: Option<&'a Requirements>,
) -> impl Iterator<Item = Problem> + use<'a> {
    let unknown = read.into_iter().flatten();
    let unknown = unknown.filter(|(name, _)| !REQUIREMENTS.contains(&name.as_str()));
    let unknown = unknown.map(|(name, _)| Problem::Requirement(name.clone()));
    let all = [&product.requirements, &product.lxd_requirements]
        .into_iter()
        .flatten()
        .flatten();
    let unread = all.filter(move |(name, value)| read.and_then(|read| read.get(*name)) != Some(value));
    unknown.chain(unread.map(|(name, _)| Problem::RequirementUnread(name.clone())))
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
