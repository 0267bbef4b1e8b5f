//! One state of the published images. It contains public data only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use edge::generation::{Generation, Holds};
use edge::response::Reply;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cached_response::CachedJson;
use super::fingerprint::FingerprintPrefix;
use super::image::{Alias, Image};
use super::route::alias_path;
use super::selection::Outcomes;
use crate::config::Visibility;

/// Memory of a snapshot, as a multiple of its image list's size. It holds that list, a compressed copy, and the images.
const SIZE: usize = 3;

/// Number of the next snapshot.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The published images and server information at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Snapshots are numbered as they are made. A later one is at least as new.
    pub number: u64,
    /// Whether Incus trusts the gateway's certificate. If not, Incus lists only public images, and administrators
    /// cannot use Incus through the gateway.
    pub is_trusted: bool,
    /// Response to `/1.0`, reduced to the fields that clients need.
    pub server: CachedJson,
    /// List of published images.
    pub images: List,
    /// List of aliases.
    pub aliases: List,
    /// Images sorted by fingerprint.
    sorted: Vec<Image>,
    /// Indexes into `sorted`, ordered by image name.
    by_name: Vec<u32>,
    by_alias: BTreeMap<String, Alias>,
    /// Searchable texts, parallel to `sorted`.
    searchable: Box<[OnceLock<Box<str>>]>,
    outcomes: Outcomes,
    /// Accounting of the snapshot's memory and readers.
    pub generation: Arc<Generation>,
}

/// A list as paths and as full objects.
#[derive(Debug)]
pub struct List {
    paths: CachedJson,
    objects: CachedJson,
}

impl List {
    fn new<T: Serialize>(objects: &[&T], path: impl Fn(&T) -> String) -> Self {
        Self {
            paths: CachedJson::plain(&objects.iter().map(|object| path(object)).collect::<Vec<_>>()),
            objects: CachedJson::plain(&objects),
        }
    }

    fn compressed(self) -> Self {
        Self {
            paths: self.paths.compressed(),
            objects: self.objects.compressed(),
        }
    }

    /// Returns the list for `?recursion=`: full objects if it is set, else paths.
    pub fn get(&self, recursion: bool) -> &CachedJson {
        if recursion { &self.objects } else { &self.paths }
    }
}

/// Result of a lookup by fingerprint prefix.
#[derive(Debug, PartialEq)]
pub enum Lookup<'a> {
    /// Several images match.
    Many,
    /// No image matches.
    Nothing,
    /// Exactly one image matches.
    One(&'a Image),
}

/// Incus's response envelope.
#[derive(Deserialize)]
struct Sync<T> {
    metadata: T,
}

impl Snapshot {
    /// Builds a snapshot from the responses to `/1.0` and `/1.0/images?recursion=1` that a trusted client gets. Drops
    /// everything that is not public.
    ///
    /// # Errors
    ///
    /// Fails if a response is not the expected JSON.
    pub fn parse(server: &[u8], images: &[u8], shown: Visibility) -> serde_json::Result<Self> {
        let server: Sync<Map<String, Value>> = serde_json::from_slice(server)?;
        let images: Sync<Vec<Image>> = serde_json::from_slice(images)?;
        let shown = |image: &Image| image.is_of_default_project() && (image.public || shown == Visibility::All);
        // Incus lists images in a different order each time.
        let mut sorted: Vec<_> = images.metadata.into_iter().filter(shown).collect();
        sorted.sort_by(|one, other| one.fingerprint.cmp(&other.fingerprint));
        let by_alias: BTreeMap<_, _> = sorted
            .iter()
            .flat_map(Image::aliases)
            .map(|alias| (alias.name.clone(), alias))
            .collect();
        let images = List::new(&sorted.iter().collect::<Vec<_>>(), Image::path);
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            generation: Generation::new(images.objects.size() * SIZE),
            is_trusted: server.metadata.get("auth").is_some_and(|auth| auth == "trusted"),
            server: CachedJson::plain(&cut(server.metadata)),
            images,
            aliases: List::new(&by_alias.values().collect::<Vec<_>>(), |alias| alias_path(&alias.name)),
            by_name: by_name(&sorted),
            searchable: sorted.iter().map(|_| OnceLock::new()).collect(),
            outcomes: Outcomes::default(),
            sorted,
            by_alias,
        })
    }

    /// Compresses the cached responses. Only a snapshot that differs from the last one needs it.
    pub fn compressed(self) -> Self {
        Self {
            server: self.server.compressed(),
            images: self.images.compressed(),
            aliases: self.aliases.compressed(),
            ..self
        }
    }

    /// Indexes of all images, ordered by name.
    pub fn by_name(&self) -> &[u32] {
        &self.by_name
    }

    /// Marks a reply that keeps this snapshot in memory until it is sent, plus `own` bytes.
    pub fn lend(&self, mut reply: Reply, own: usize) -> Reply {
        let generation = Arc::clone(&self.generation);
        reply.extensions_mut().insert(Holds { generation, own });
        reply
    }

    /// Returns the lowercase text that searches look at. The first search computes it.
    ///
    /// # Panics
    ///
    /// Panics if `place` is out of range.
    pub fn searchable_text(&self, place: u32) -> &str {
        self.searchable[place as usize].get_or_init(|| self.image_at(place).searchable_text().into_boxed_str())
    }

    /// Cached outcomes of filters and searches over this snapshot.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Returns the image at an index.
    ///
    /// # Panics
    ///
    /// Panics if `place` is out of range.
    pub fn image_at(&self, place: u32) -> &Image {
        &self.sorted[place as usize]
    }

    /// Returns the image with exactly this fingerprint.
    pub fn image(&self, fingerprint: &str) -> Option<&Image> {
        let place = self
            .sorted
            .binary_search_by(|image| image.fingerprint.as_str().cmp(fingerprint));
        Some(&self.sorted[place.ok()?])
    }

    /// All images, ordered by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Image> {
        self.sorted.iter()
    }

    /// Number of images.
    pub fn number_of_images(&self) -> usize {
        self.sorted.len()
    }

    /// Whether both snapshots have the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_trusted == other.is_trusted
            && self.server.is_same(&other.server)
            && self.images.objects.is_same(&other.images.objects)
    }

    /// Returns the image whose fingerprint starts with `prefix`.
    pub fn find(&self, prefix: &FingerprintPrefix) -> Lookup<'_> {
        let first = self
            .sorted
            .partition_point(|image| image.fingerprint.as_str() < prefix.as_str());
        let mut matching = self.sorted[first..]
            .iter()
            .take_while(|image| image.fingerprint.starts_with(prefix.as_str()));
        match (matching.next(), matching.next()) {
            (None, _) => Lookup::Nothing,
            (Some(image), None) => Lookup::One(image),
            (Some(_), Some(_)) => Lookup::Many,
        }
    }

    /// Returns the alias with exactly this name.
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.by_alias.get(name)
    }
}

fn by_name(images: &[Image]) -> Vec<u32> {
    let mut places: Vec<_> = (0..).zip(images).collect();
    places.sort_by_key(|(_, image)| image.name());
    places.into_iter().map(|(place, _)| place).collect()
}

/// Removes the fields that are not public. With `public: true`, `incus remote add` does not ask for a trust token, even
/// without `--public`.
fn cut(mut server: Map<String, Value>) -> Map<String, Value> {
    server.retain(|key, _| key.starts_with("api_") || key == "auth_methods");
    server.insert("auth".to_owned(), "untrusted".into());
    server.insert("public".to_owned(), true.into());
    server.insert("config".to_owned(), Map::new().into());
    server
}
