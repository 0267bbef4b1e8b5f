//! What clients see: the images of a remote as a family of clients lists them.
//!
//! It follows `shared/simplestreams` in the sources of Incus and LXD step by step: which products, versions and items they skip,
//! which fingerprint they take, in which order they sort, and which image an alias then belongs to.

mod aliases;
mod collector;
mod order;

use std::collections::{BTreeMap, HashMap};

use crate::finding::Problem;
use crate::{Architecture, Family, Kind, Parsed, Place, Products};
use aliases::{Owners, assign_aliases};
use collector::Collector;
use order::{Listed, in_order_of_clients};

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
        let mut collector = Collector::new(family);
        let stopped =
            |file: &&Parsed<Products>| file.deviations.iter().any(|deviation| deviation.stops.contains(family));
        for file in files {
            for (key, product) in &file.document.products {
                collector.product(&Place::default().product(key), product);
            }
        }
        if files.iter().any(stopped) {
            collector.images.clear();
        }
        let Collector {
            mut images,
            mut problems,
            ..
        } = collector;
        images.sort_by(in_order_of_clients);
        let (owners, aliases) = assign_aliases(&images, &mut problems);
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
