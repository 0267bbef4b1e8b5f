//! What clients see: the images of a remote as a family of clients lists them.
//!
//! It follows `shared/simplestreams` in the sources of Incus and LXD step by step: which products, versions and items they skip,
//! which fingerprint they take, in which order they sort, and which image an alias then belongs to.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::date::{is_dashed_date, is_date};
use crate::finding::{Problem, file_problems, is_sha256, requirement_problems};
use crate::{Architecture, Family, Ftype, Hashes, Item, Kind, Parsed, Place, Product, Products, Requirements, Version};

/// The images that the clients of a family see in the files of a remote.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The images in the order in which clients list them.
    pub images: Vec<Image>,
    owners: Owners,
    pub(crate) problems: Vec<(Place, Problem)>,
}

/// An image as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The fingerprint. Clients take it from the document.
    pub fingerprint: String,
    /// What its instances are.
    pub kind: Kind,
    /// The architecture.
    pub architecture: Architecture,
    /// The properties without `description`, which clients assemble from the others in different ways.
    pub properties: BTreeMap<String, String>,
    /// The names that it owns: another image with the same name comes later in the order of clients.
    pub aliases: Vec<Alias>,
    /// Its files: the metadata or the unified image first, then the root, then deltas.
    pub files: Vec<File>,
    /// The product, the version and the item with the metadata.
    pub place: Place,
}

/// A name of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// Whether clients show it in lists only if the image has their own architecture. It can be used in any case.
    pub native_only: bool,
}

/// A file of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// What it is to the image.
    pub role: Role,
    /// The path below the base URL of the remote.
    pub path: String,
    /// The SHA-256 that clients verify.
    pub sha256: Option<String>,
    /// The size in bytes.
    pub size: Option<u64>,
}

/// What a file is to an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// The metadata, or the whole unified image
    Metadata,
    /// The root file system or the disk
    Root,
    /// The difference to the root of the image with this fingerprint
    Delta(String),
}

/// The image that owns a name, by its position.
type Owners = HashMap<(String, Kind, Architecture), usize>;

impl Image {
    /// Returns the names that a client on this architecture lists.
    pub fn listed_aliases(&self, native: Architecture) -> impl Iterator<Item = &str> {
        let listed = self.aliases.iter();
        let listed = listed.filter(move |alias| !alias.native_only || self.architecture == native);
        listed.map(|alias| alias.name.as_str())
    }

    /// Returns the size that clients show: of the metadata and the root together.
    pub fn size(&self) -> u64 {
        let whole = self.files.iter().filter(|file| !matches!(file.role, Role::Delta(_)));
        whole.filter_map(|file| file.size).fold(0, u64::saturating_add)
    }
}

impl View {
    /// Returns what the clients of a family see in all the files that the index of a remote names. It is nothing if they cannot
    /// decode one of them.
    ///
    /// As with clients, the work grows with the square of a product's size: limit the size of what strangers send.
    pub fn of(family: Family, files: &[&Parsed<Products>]) -> Self {
        let mut reading = Reading {
            family,
            images: Vec::new(),
            problems: Vec::new(),
        };
        let stopped =
            |file: &&Parsed<Products>| file.deviations.iter().any(|deviation| deviation.stops.contains(family));
        for file in files {
            for (key, product) in &file.document.products {
                reading.product(&Place::default().product(key), product);
            }
        }
        if files.iter().any(stopped) {
            reading.images.clear();
        }
        let Reading {
            mut images,
            mut problems,
            ..
        } = reading;
        images.sort_by(in_order_of_clients);
        let (owners, aliases) = give_aliases(&images, &mut problems);
        let owned = |Listed { image, .. }, aliases| Image { aliases, ..image };
        let images: Vec<Image> = images
            .into_iter()
            .zip(aliases)
            .map(|(listed, aliases)| owned(listed, aliases))
            .collect();
        let mut fingerprints = HashMap::new();
        for image in &images {
            if let Some(other) = fingerprints.insert(&image.fingerprint, &image.place) {
                let other = other.without_item();
                problems.push((image.place.without_item(), Problem::FingerprintTwice { other }));
            }
        }
        Self {
            images,
            owners,
            problems,
        }
    }

    /// Returns the image that a client on this architecture takes for an alias. Without a kind, it is a container, or else a
    /// virtual machine.
    pub fn resolve(&self, alias: &str, kind: Option<Kind>, native: Architecture) -> Option<&Image> {
        let kinds = match &kind {
            Some(kind) => std::slice::from_ref(kind),
            None => &[Kind::Container, Kind::VirtualMachine],
        };
        let owned = |kind, architecture| {
            let owner = self.owners.get(&(alias.to_owned(), kind, architecture));
            owner.map(|&position| &self.images[position])
        };
        kinds.iter().find_map(|&kind| {
            let compatible = [native].into_iter().chain(native.personalities().iter().copied());
            compatible
                .chain(Architecture::all())
                .find_map(|architecture| owned(kind, architecture))
        })
    }
}

/// An image with what decides its place in the order of clients.
struct Listed {
    image: Image,
    /// The names that the product has.
    aliases: Vec<String>,
}

impl Listed {
    fn property(&self, name: &str) -> &str {
        self.image.properties.get(name).map_or("", String::as_str)
    }
}

struct Reading {
    family: Family,
    images: Vec<Listed>,
    problems: Vec<(Place, Problem)>,
}

impl Reading {
    fn product(&mut self, place: &Place, product: &Product) {
        let Some(architecture) = Architecture::read_by(self.family, &product.architecture) else {
            let problem = Problem::Architecture(product.architecture.clone());
            return self.problem(place.key("arch"), problem);
        };
        let requirements = requirements(self.family, product);
        let odd = requirement_problems(product, requirements);
        self.problems.extend(odd.map(|problem| (place.clone(), problem)));
        for alias in &product.aliases {
            if alias.trim() != alias || alias.is_empty() {
                self.problem(place.key("aliases"), Problem::AliasSpace(alias.clone()));
            }
        }
        if let Some(day) = product
            .end_of_life
            .as_ref()
            .filter(|day| !day.is_empty() && !is_dashed_date(day))
        {
            self.problem(place.key("support_eol"), Problem::EndOfLife(day.clone()));
        }
        for (key, version) in &product.versions {
            let place = place.version(key);
            if !key.as_bytes().get(..8).is_some_and(is_date) {
                self.problem(place, Problem::VersionKey);
                continue;
            }
            let about = About {
                product,
                architecture,
                requirements,
                version,
                key,
            };
            self.version(&place, &about);
        }
    }

    fn version(&mut self, place: &Place, about: &About<'_>) {
        let items = &about.version.items;
        let family = self.family;
        let mut taken: Vec<_> = items
            .iter()
            .filter(|(_, item)| family.takes_metadata(&item.ftype) || family.takes_unified(&item.ftype))
            .collect();
        if family.takes_one_metadata() {
            let differs = |(_, item): &&(&String, &Item)| !is_same_file(item, taken[0].1);
            if let Some((key, _)) = taken.iter().find(differs) {
                self.problem(place.item(key), Problem::MetadataUndecided(taken[0].0.clone()));
            }
            taken.truncate(1);
        }
        let roots = || items.iter().filter(|(_, item)| item.ftype.is_root());
        if taken.is_empty() {
            self.problem(place.clone(), Problem::NoMetadata);
        }
        let mut used = BTreeSet::new();
        for &(key, meta) in &taken {
            let place = place.item(key);
            if meta.path.is_empty() {
                self.problem(place.key("path"), Problem::NoPath);
                used.extend(roots().map(|(key, _)| key));
                continue;
            }
            if meta.ftype.is_unified() {
                match meta.sha256.as_deref().filter(|hash| !hash.is_empty()) {
                    Some(hash) => self.image(&place, about, hash, meta, None),
                    None => self.problem(place.key("sha256"), Problem::NoFingerprint("sha256")),
                }
                continue;
            }
            if roots().next().is_none() {
                self.problem(place.clone(), Problem::NoRoot);
            }
            for (key, root) in roots() {
                if let Some(fingerprint) = meta.combined.fingerprint(&root.ftype) {
                    used.insert(key);
                    self.image(&place, about, fingerprint, meta, Some((key, root)));
                }
            }
        }
        if taken.iter().any(|(_, meta)| meta.ftype.is_metadata()) {
            for (key, root) in roots().filter(|(key, _)| !used.contains(key)) {
                let needed = Hashes::key(&root.ftype).unwrap_or_default();
                self.problem(place.item(key), Problem::NoFingerprint(needed));
            }
        }
    }

    fn image(
        &mut self,
        place: &Place,
        about: &About<'_>,
        fingerprint: &str,
        meta: &Item,
        root: Option<(&String, &Item)>,
    ) {
        if !is_sha256(fingerprint) {
            self.problem(place.clone(), Problem::Fingerprint(fingerprint.to_owned()));
        }
        let mut files = vec![file(Role::Metadata, meta)];
        self.file_problems(place, meta);
        let mut kind = Kind::Container;
        if let Some((key, root)) = root {
            files.push(file(Role::Root, root));
            let place = Place {
                item: Some(key.clone()),
                ..place.clone()
            };
            self.file_problems(&place, root);
            self.deltas(&place, about, root, &mut files);
            if root.ftype.is_disk() {
                kind = Kind::VirtualMachine;
            }
        } else if meta.combined_type.as_deref() == Some("virtual-machine") {
            if self.family == Family::Incus7 {
                kind = Kind::VirtualMachine;
            } else {
                self.problem(place.key("combined_type"), Problem::UnifiedDisk);
            }
        }
        self.images.push(Listed {
            image: Image {
                fingerprint: fingerprint.to_owned(),
                kind,
                architecture: about.architecture,
                properties: about.properties(root.map(|(_, root)| &root.ftype)),
                aliases: Vec::new(),
                files,
                place: place.clone(),
            },
            aliases: about.product.aliases.clone(),
        });
    }

    fn deltas(&mut self, place: &Place, about: &About<'_>, root: &Item, files: &mut Vec<File>) {
        let Some(ftype) = root.ftype.delta() else {
            return;
        };
        if self.family == Family::Lxd5 && ftype != Ftype::SquashfsDelta {
            return;
        }
        for (key, delta) in about.version.items.iter().filter(|(_, item)| item.ftype == ftype) {
            let place = Place {
                item: Some(key.clone()),
                ..place.clone()
            };
            let base = delta
                .delta_base
                .as_ref()
                .and_then(|base| about.product.versions.get(base));
            let metadata =
                base.and_then(|base| base.items.values().find(|item| self.family.takes_metadata(&item.ftype)));
            // All but the last take the container's hash for a disk too.
            let hashes = metadata.map(|metadata| &metadata.combined);
            let of = if self.family == Family::Lxd {
                &root.ftype
            } else {
                &Ftype::Squashfs
            };
            let Some(fingerprint) = hashes.and_then(|hashes| hashes.fingerprint(of)) else {
                self.problem(place.key("delta_base"), Problem::DeltaBase);
                continue;
            };
            if *of != root.ftype {
                self.problem(place.clone(), Problem::DiskDelta);
            }
            self.file_problems(&place, delta);
            files.push(file(Role::Delta(fingerprint.to_owned()), delta));
        }
    }

    fn file_problems(&mut self, place: &Place, item: &Item) {
        let problems = file_problems(self.family, item);
        self.problems
            .extend(problems.map(|(key, problem)| (place.key(key), problem)));
    }

    fn problem(&mut self, place: Place, problem: Problem) {
        self.problems.push((place, problem));
    }
}

/// What an image's version and product say about it.
struct About<'a> {
    product: &'a Product,
    architecture: Architecture,
    requirements: Option<&'a Requirements>,
    version: &'a Version,
    key: &'a str,
}

impl About<'_> {
    fn properties(&self, root: Option<&Ftype>) -> BTreeMap<String, String> {
        let Self { product, version, .. } = self;
        let mut properties: BTreeMap<String, String> = [
            ("os", product.os.as_str()),
            ("release", product.release.as_str()),
            ("version", product.version.as_deref().unwrap_or_default()),
            ("architecture", product.architecture.as_str()),
            ("label", version.label.as_deref().unwrap_or_default()),
            ("serial", self.key),
            ("variant", product.variant.as_deref().unwrap_or_default()),
            ("type", root.map_or("tar.gz", Ftype::as_str)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, value) in self.requirements.into_iter().flatten() {
            properties.insert(format!("requirements.{name}"), value.clone());
        }
        properties.retain(|_, value| !value.is_empty());
        properties
    }
}

/// Returns the requirements that a family reads.
fn requirements(family: Family, product: &Product) -> Option<&Requirements> {
    match family {
        Family::Incus6 | Family::Incus7 => product.requirements.as_ref(),
        Family::Lxd5 => product.lxd_requirements.as_ref(),
        Family::LxdTransition | Family::LxdDebian13 | Family::Lxd => {
            product.lxd_requirements.as_ref().or(product.requirements.as_ref())
        }
    }
}

/// Returns whether it does not matter which of the two metadata items a client takes.
fn is_same_file(a: &Item, b: &Item) -> bool {
    let of = |item: &Item| (item.path.clone(), item.sha256.clone(), item.size, item.combined.clone());
    a.ftype.is_unified() == b.ftype.is_unified() && of(a) == of(b)
}

fn file(role: Role, item: &Item) -> File {
    File {
        role,
        path: item.path.clone(),
        sha256: item.sha256.clone().filter(|hash| !hash.is_empty()),
        size: item.size,
    }
}

/// The properties by which clients sort before they look at the version.
const GROUPS: [&str; 3] = ["os", "release", "variant"];

fn in_order_of_clients(a: &Listed, b: &Listed) -> Ordering {
    let preference = |listed: &Listed| {
        let root = Ftype::from(listed.property("type").to_owned());
        let roots = Ftype::KNOWN.iter().filter(|ftype| ftype.is_root());
        roots
            .enumerate()
            .find(|&(_, ftype)| *ftype == root)
            .map_or(0, |(nth, _)| nth)
    };
    let by = |property: &str| match (a.property(property), b.property(property)) {
        // Clients have no order for these two; see `is_undecided`.
        ("", b) if !b.is_empty() => Ordering::Greater,
        (a, "") if !a.is_empty() => Ordering::Less,
        (a, b) => a.cmp(b),
    };
    let groups = GROUPS.iter().map(|property| by(property)).find(|order| order.is_ne());
    groups
        .unwrap_or(Ordering::Equal)
        .then_with(|| by("serial").reverse())
        .then_with(|| by("architecture"))
        .then_with(|| preference(a).cmp(&preference(b)))
}

/// Gives each name to the first image in the order of clients that has it, separately for each kind and architecture.
fn give_aliases(images: &[Listed], problems: &mut Vec<(Place, Problem)>) -> (Owners, Vec<Vec<Alias>>) {
    let unordered = unordered_groups(images);
    let mut owners = Owners::new();
    let mut given = Vec::new();
    for (position, listed) in images.iter().enumerate() {
        let Image { kind, architecture, .. } = listed.image;
        let written = listed.property("architecture").to_owned();
        let mut names = Vec::new();
        for alias in &listed.aliases {
            let full = format!("{alias}/{written}");
            for (name, native_only) in [(alias.clone(), true), (full, false)] {
                let owner = *owners.entry((name.clone(), kind, architecture)).or_insert(position);
                let other = &images[owner];
                if owner == position {
                    // Its own name for the second time.
                    if !names.iter().any(|alias: &Alias| alias.name == name) {
                        names.push(Alias { name, native_only });
                    }
                } else if native_only || other.aliases.contains(&name) {
                    let place = listed.image.place.without_item();
                    let owner = other.image.place.without_item();
                    if is_undecided(&unordered, listed, other) {
                        problems.push((
                            place,
                            Problem::AliasUndecided {
                                alias: name,
                                other: owner,
                            },
                        ));
                    } else if listed.image.place.product != owner.product {
                        problems.push((place, Problem::AliasTaken { alias: name, owner }));
                    }
                }
            }
        }
        given.push(names);
    }
    (owners, given)
}

/// Returns the groups of images, by their common first properties, in which some have the next property and others lack it. To
/// clients the two are neither before nor after each other, and then the order of the whole group depends on chance.
fn unordered_groups(images: &[Listed]) -> BTreeSet<Vec<&str>> {
    let mut seen: BTreeMap<Vec<&str>, (bool, bool)> = BTreeMap::new();
    for listed in images {
        let values = GROUPS.map(|property| listed.property(property));
        for (level, value) in values.iter().enumerate() {
            let (empty, set) = seen.entry(values[..level].to_vec()).or_default();
            *empty |= value.is_empty();
            *set |= !value.is_empty();
        }
    }
    let unordered = seen.into_iter().filter(|(_, (empty, set))| *empty && *set);
    unordered.map(|(group, _)| group).collect()
}

/// Returns whether chance decides which of the two clients put first.
fn is_undecided(unordered: &BTreeSet<Vec<&str>>, a: &Listed, b: &Listed) -> bool {
    let common = GROUPS
        .iter()
        .take_while(|property| a.property(property) == b.property(property))
        .count();
    let group: Vec<&str> = GROUPS[..common].iter().map(|property| a.property(property)).collect();
    let in_unordered = (0..=group.len()).any(|level| unordered.contains(&group[..level]));
    in_unordered || in_order_of_clients(a, b).is_eq()
}
