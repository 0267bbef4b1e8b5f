//! One state of the published images. It contains public data only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use edge::generation::{Generation, Holds};
use edge::response::Reply;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cached_response::{CachedJson, Part};
use super::fingerprint::FingerprintPrefix;
use super::image::{Alias, Image};
use super::route::alias_path;
use super::selection::Outcomes;
use crate::config::Visibility;

/// Memory of a snapshot made of a list of Incus, as a multiple of the size of the list. It holds that list, a compressed
/// copy, and each image as an object and as JSON.
const SIZE: usize = 4;

/// Number of the next snapshot.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The published images and server information at one moment.
///
/// A snapshot made by [`Self::changed`] shares with the previous one whatever has not changed.
#[derive(Debug)]
pub struct Snapshot {
    /// Snapshots are numbered as they are made. A later one is at least as new.
    pub number: u64,
    /// Whether Incus trusts the gateway's certificate. If not, Incus lists only public images, and administrators
    /// cannot use Incus through the gateway.
    pub is_trusted: bool,
    /// Response to `/1.0`, reduced to the fields that clients need.
    pub server: Arc<CachedJson>,
    /// List of published images.
    pub images: List,
    /// List of aliases.
    pub aliases: List,
    /// Images sorted by fingerprint.
    sorted: Vec<Arc<Published>>,
    /// Indexes into `sorted`, ordered by image name.
    by_name: Vec<u32>,
    by_alias: Arc<BTreeMap<String, Alias>>,
    outcomes: Outcomes,
    /// Accounting of the snapshot's memory and readers.
    pub generation: Arc<Generation>,
}

/// A list as paths and as full objects.
#[derive(Clone, Debug)]
pub struct List {
    paths: Arc<CachedJson>,
    objects: Arc<CachedJson>,
}

impl List {
    fn of_aliases(aliases: &BTreeMap<String, Alias>) -> Self {
        let paths: Vec<_> = aliases.keys().map(|name| alias_path(name)).collect();
        Self {
            paths: Arc::new(CachedJson::plain(&paths)),
            objects: Arc::new(CachedJson::plain(&aliases.values().collect::<Vec<_>>())),
        }
    }

    /// Makes the list of these images. `paths` is that of the same images.
    fn of_images(sorted: &[Arc<Published>], paths: Option<Arc<CachedJson>>) -> Self {
        let make_paths = || {
            let paths: Vec<_> = sorted.iter().map(|image| image.path()).collect();
            Arc::new(CachedJson::plain(&paths))
        };
        Self {
            paths: paths.unwrap_or_else(make_paths),
            objects: Arc::new(CachedJson::concatenated(sorted.iter().map(|image| &image.json))),
        }
    }

    fn compress(&self) {
        self.paths.compress();
        self.objects.compress();
    }

    fn size(&self) -> usize {
        self.paths.size() + self.objects.size()
    }

    /// Returns the list for `?recursion=`: full objects if it is set, else paths.
    pub fn get(&self, recursion: bool) -> &CachedJson {
        if recursion { &self.objects } else { &self.paths }
    }
}

/// An image with what lists and searches need of it.
#[derive(Debug)]
struct Published {
    image: Image,
    json: Part,
    searchable: OnceLock<Box<str>>,
}

impl Published {
    fn new(image: Image) -> Self {
        Self {
            json: Part::new(&image),
            searchable: OnceLock::new(),
            image,
        }
    }
}

impl Deref for Published {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

/// What has become of some images of a snapshot: by fingerprint, the image if it is visible.
pub type Changes = BTreeMap<String, Option<Image>>;

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
        let server = ServerView::parse(server)?;
        let images: Sync<Vec<Image>> = serde_json::from_slice(images)?;
        // Incus lists images in a different order each time.
        let visible = images.metadata.into_iter().filter(|image| is_visible(image, shown));
        let sorted = sort(visible.map(|image| Arc::new(Published::new(image))).collect());
        let by_alias = by_alias(&sorted);
        let images = List::of_images(&sorted, None);
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            generation: Generation::new(images.objects.size() * SIZE),
            is_trusted: server.is_trusted,
            server: Arc::new(server.response),
            images,
            aliases: List::of_aliases(&by_alias),
            by_name: by_name(&sorted),
            outcomes: Outcomes::default(),
            sorted,
            by_alias: Arc::new(by_alias),
        })
    }

    /// Makes the snapshot that follows this one when some images, and perhaps the response to `/1.0`, have changed. Returns
    /// `None` if nothing has changed in fact.
    pub fn changed(&self, server: Option<ServerView>, changes: Changes) -> Option<Self> {
        let server = server.filter(|new| new.is_trusted != self.is_trusted || !new.response.is_same(&self.server));
        let mut has_same_aliases = true;
        let mut has_same_paths = true;
        let mut introduced = 0;
        let mut changed = BTreeSet::new();
        let mut new = Vec::new();
        for (fingerprint, image) in changes {
            let old = self.image(&fingerprint);
            if old == image.as_ref() {
                continue;
            }
            has_same_paths &= old.is_some() == image.is_some();
            has_same_aliases &= aliases(old) == aliases(image.as_ref());
            if let Some(image) = image {
                let image = Published::new(image);
                introduced += image.json.size();
                new.push(Arc::new(image));
            }
            changed.insert(fingerprint);
        }
        if changed.is_empty() && server.is_none() {
            return None;
        }
        let unchanged = self.sorted.iter().filter(|image| !changed.contains(&image.fingerprint));
        let sorted = sort(unchanged.cloned().chain(new).collect());
        let images = List::of_images(&sorted, has_same_paths.then(|| Arc::clone(&self.images.paths)));
        let (by_alias, aliases) = match has_same_aliases {
            true => (Arc::clone(&self.by_alias), self.aliases.clone()),
            false => {
                let by_alias = by_alias(&sorted);
                let aliases = List::of_aliases(&by_alias);
                (Arc::new(by_alias), aliases)
            }
        };
        // The lists and their compressed copies are its own, apart from what has not changed at all. An image that the next
        // snapshot does not share is counted by the one that introduced it: as an object and as JSON.
        let size = images.size() + images.size() / 4 + 2 * introduced;
        Some(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            generation: Generation::new(size),
            is_trusted: server.as_ref().map_or(self.is_trusted, |server| server.is_trusted),
            server: server.map_or_else(|| Arc::clone(&self.server), |server| Arc::new(server.response)),
            images,
            aliases,
            by_name: by_name(&sorted),
            outcomes: Outcomes::default(),
            sorted,
            by_alias,
        })
    }

    /// Compresses the cached responses, as far as they are not.
    pub fn compress(&self) {
        self.server.compress();
        self.images.compress();
        self.aliases.compress();
    }

    /// Fingerprints of the images that differ between both snapshots.
    pub fn differences<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a str> {
        let is_same = |image: &Published, in_other: &Self| {
            in_other
                .image(&image.fingerprint)
                .is_some_and(|found| found.is_same(image))
        };
        let here = self.sorted.iter().filter(|image| !is_same(image, other));
        let there = other.sorted.iter().filter(|image| !is_same(image, self));
        here.chain(there).map(|image| image.fingerprint.as_str()).collect()
    }

    /// Returns the image with exactly this fingerprint.
    pub fn image(&self, fingerprint: &str) -> Option<&Image> {
        let place = self
            .sorted
            .binary_search_by(|image| image.fingerprint.as_str().cmp(fingerprint));
        Some(&self.sorted[place.ok()?].image)
    }

    /// Fingerprints of all images.
    pub fn fingerprints(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|image| image.fingerprint.as_str())
    }

    /// Returns the images that have an alias of this name. While Incus moves an alias, there may be two.
    pub fn images_with_alias(&self, name: &str) -> impl Iterator<Item = &Image> {
        let images = self.sorted.iter().map(|image| &image.image);
        images.filter(move |image| image.alias_names().any(|alias| alias == name))
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
        let image = &self.sorted[place as usize];
        image
            .searchable
            .get_or_init(|| image.searchable_text().into_boxed_str())
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

    /// All images, ordered by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Image> {
        self.sorted.iter().map(|image| &image.image)
    }

    /// Number of images.
    pub fn number_of_images(&self) -> usize {
        self.sorted.len()
    }

    /// Whether both snapshots have the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        self.has_same_server(other) && self.images.objects.is_same(&other.images.objects)
    }

    /// Whether Incus's response to `/1.0` is the same for both snapshots.
    pub fn has_same_server(&self, other: &Self) -> bool {
        self.is_trusted == other.is_trusted && self.server.is_same(&other.server)
    }

    /// Returns the image whose fingerprint starts with `prefix`.
    pub fn find(&self, prefix: &FingerprintPrefix) -> Lookup<'_> {
        let first = self
            .sorted
            .partition_point(|image| image.fingerprint.as_str() < prefix.as_str());
        let mut matching = self.sorted[first..]
            .iter()
            .map(|image| &image.image)
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

/// What clients see of the response to `/1.0`.
#[derive(Debug)]
pub struct ServerView {
    is_trusted: bool,
    response: CachedJson,
}

impl ServerView {
    /// Parses Incus's response.
    ///
    /// # Errors
    ///
    /// Fails if it is not the expected JSON.
    pub fn parse(response: &[u8]) -> serde_json::Result<Self> {
        let server: Sync<Map<String, Value>> = serde_json::from_slice(response)?;
        Ok(Self {
            is_trusted: server.metadata.get("auth").is_some_and(|auth| auth == "trusted"),
            response: CachedJson::plain(&cut(server.metadata)),
        })
    }
}

/// Parses Incus's response about one image. Returns `None` if that is not visible on the public port.
///
/// # Errors
///
/// Fails if it is not the expected JSON.
pub fn parse_image(response: &[u8], shown: Visibility) -> serde_json::Result<Option<Image>> {
    let image: Sync<Image> = serde_json::from_slice(response)?;
    Ok(Some(image.metadata).filter(|image| is_visible(image, shown)))
}

fn is_visible(image: &Image, shown: Visibility) -> bool {
    image.is_of_default_project() && (image.public || shown == Visibility::All)
}

fn sort(mut images: Vec<Arc<Published>>) -> Vec<Arc<Published>> {
    images.sort_by(|one, other| one.fingerprint.cmp(&other.fingerprint));
    images
}

fn aliases(image: Option<&Image>) -> Vec<Alias> {
    image.into_iter().flat_map(Image::aliases).collect()
}

fn by_alias(images: &[Arc<Published>]) -> BTreeMap<String, Alias> {
    let aliases = images.iter().flat_map(|image| image.aliases());
    aliases.map(|alias| (alias.name.clone(), alias)).collect()
}

fn by_name(images: &[Arc<Published>]) -> Vec<u32> {
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
