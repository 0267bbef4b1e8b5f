//! The images in products: which products, versions and items clients skip, and which fingerprint and files an image has.

use std::collections::{BTreeMap, BTreeSet};

use super::order::Listed;
use super::{File, Image, Role};
use crate::date::{is_dashed_date, is_date};
use crate::finding::{Problem, file_problems, is_sha256, requirement_problems};
use crate::{Architecture, Family, Ftype, Hashes, Item, Kind, Place, Product, Requirements, Version};

/// Collects the images and the problems that a family of clients finds in products.
pub(super) struct Collector {
    family: Family,
    pub(super) images: Vec<Listed>,
    pub(super) problems: Vec<(Place, Problem)>,
}

impl Collector {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            images: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn product(&mut self, place: &Place, product: &Product) {
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
