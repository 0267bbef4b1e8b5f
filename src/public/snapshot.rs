//! One state of the published images: what strangers may know, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cached_response::CachedJson;
use super::fingerprint::FingerprintPrefix;
use super::generation::{Generation, Holds};
use super::image::{Alias, Image};
use super::route::alias_path;
use super::selection::Outcomes;
use crate::config::Visibility;
use crate::reply::Reply;

/// What a snapshot takes, as a multiple of the list of its images: that list, compressed too, and the images themselves.
const SIZE: usize = 3;

/// What a stranger may know, as of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Whether Incus trusts us. If not, it shows us no more than any stranger, and admins get nothing through us.
    pub is_trusted: bool,
    /// Incus's `/1.0`, cut to what its clients need.
    pub server: CachedJson,
    /// The published images.
    pub images: List,
    /// Their names.
    pub aliases: List,
    /// In the order of their fingerprints.
    sorted: Vec<Image>,
    /// Places in that, in the order of the images' names.
    by_name: Vec<u32>,
    by_alias: BTreeMap<String, Alias>,
    /// By place.
    searchable: Box<[OnceLock<Box<str>>]>,
    outcomes: Outcomes,
    /// Its memory, while anybody reads it.
    pub generation: Arc<Generation>,
}

/// A list in both its forms.
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

    /// `?recursion=` asks for whole objects.
    pub fn get(&self, recursion: bool) -> &CachedJson {
        if recursion { &self.objects } else { &self.paths }
    }
}

/// What a prefix leads to.
#[derive(Debug, PartialEq)]
pub enum Lookup<'a> {
    /// Several images.
    Many,
    /// Nothing.
    Nothing,
    /// This image alone.
    One(&'a Image),
}

/// The part of Incus's answers that matters.
#[derive(Deserialize)]
struct Sync<T> {
    metadata: T,
}

impl Snapshot {
    /// Takes from Incus's `/1.0` and `/1.0/images?recursion=1`, as a trusted client gets them, what strangers may know.
    pub fn parse(server: &[u8], images: &[u8], shown: Visibility) -> serde_json::Result<Self> {
        let server: Sync<Map<String, Value>> = serde_json::from_slice(server)?;
        let images: Sync<Vec<Image>> = serde_json::from_slice(images)?;
        let shown = |image: &Image| image.is_of_default_project() && (image.public || shown == Visibility::All);
        // Incus's own order is another one each time.
        let mut sorted: Vec<_> = images.metadata.into_iter().filter(shown).collect();
        sorted.sort_by(|one, other| one.fingerprint.cmp(&other.fingerprint));
        let by_alias: BTreeMap<_, _> = sorted
            .iter()
            .flat_map(Image::aliases)
            .map(|alias| (alias.name.clone(), alias))
            .collect();
        let images = List::new(&sorted.iter().collect::<Vec<_>>(), Image::path);
        Ok(Self {
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

    /// Ready for many askers, once it is known to say something new.
    pub fn compressed(self) -> Self {
        Self {
            server: self.server.compressed(),
            images: self.images.compressed(),
            aliases: self.aliases.compressed(),
            ..self
        }
    }

    /// The places of all images in the order of names, which is people's.
    pub fn by_name(&self) -> &[u32] {
        &self.by_name
    }

    /// Marks a reply that keeps this snapshot until it is taken, and `own` bytes besides.
    pub fn lend(&self, mut reply: Reply, own: usize) -> Reply {
        let generation = Arc::clone(&self.generation);
        reply.extensions_mut().insert(Holds { generation, own });
        reply
    }

    /// What a search looks at of the image at a place, in lower case. It is made when somebody searches first.
    pub fn searchable_text(&self, place: u32) -> &str {
        self.searchable[place as usize].get_or_init(|| self.image_at(place).searchable_text().into_boxed_str())
    }

    /// What came of the filters and searches that were evaluated over it.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// The image at a place.
    pub fn image_at(&self, place: u32) -> &Image {
        &self.sorted[place as usize]
    }

    /// How many images it has.
    pub fn number_of_images(&self) -> usize {
        self.sorted.len()
    }

    /// Whether it says the same as another one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_trusted == other.is_trusted
            && self.server.is_same(&other.server)
            && self.images.objects.is_same(&other.images.objects)
    }

    /// The image that a fingerprint or the beginning of one names.
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

    /// The alias of this very name.
    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.by_alias.get(name)
    }
}

fn by_name(images: &[Image]) -> Vec<u32> {
    let mut places: Vec<_> = (0..).zip(images).collect();
    places.sort_by_key(|(_, image)| image.name());
    places.into_iter().map(|(place, _)| place).collect()
}

/// `public: true` makes `incus remote add` ask for no trust token, even without `--public`.
fn cut(mut server: Map<String, Value>) -> Map<String, Value> {
    server.retain(|key, _| key.starts_with("api_") || key == "auth_methods");
    server.insert("auth".to_owned(), "untrusted".into());
    server.insert("public".to_owned(), true.into());
    server.insert("config".to_owned(), Map::new().into());
    server
}
