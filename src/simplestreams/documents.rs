//! The documents of a simplestreams server, and the files they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use edge::response::Reply;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use simplestreams::{Blob, Content, Entry, Index, Kind, Layout, Omitted, RootFormat, WriteError};
use store::{Digest, Format, Part, PartKind};

use crate::public::cached_response::CachedJson;
use crate::public::image::Image;
use crate::public::snapshot::Snapshot;

/// Where the index says that the products are.
const PRODUCTS: &str = "streams/v1/images.json";

/// The files of images that are known, complete or not in the store at the moment.
pub(super) type KnownFiles = HashMap<Digest, Arc<[Part]>>;

/// The documents of one moment.
#[derive(Debug)]
pub struct Documents {
    /// `/streams/v1/index.json`
    pub(super) index: CachedJson,
    /// `/streams/v1/images.json`
    pub(super) products: CachedJson,
    /// The images that were published at that moment.
    pub(super) snapshot: Arc<Snapshot>,
    files: HashMap<String, File>,
    /// Number of images in the documents.
    pub listed: usize,
    /// What the documents cannot express.
    pub omitted: Vec<Omitted>,
    /// Images whose files are not known yet.
    pub pending: Vec<Pending>,
}

/// An image whose files are not known yet.
#[derive(Debug)]
pub struct Pending {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Why the files could not be fetched the last time.
    pub problem: Option<String>,
}

/// A file that the documents refer to.
#[derive(Debug)]
pub(super) struct File {
    pub(super) sha256: Digest,
    pub(super) size: u64,
    /// Its index among the files of its image.
    pub(super) part: usize,
    /// The index of its image in the snapshot.
    image: u32,
}

impl Documents {
    /// Makes the documents for these images, as far as their files are known.
    pub(super) fn build(
        snapshot: Arc<Snapshot>,
        known: &KnownFiles,
        problem: impl Fn(&Digest) -> Option<String>,
    ) -> Result<Self, WriteError> {
        let digest = |image: &Image| image.fingerprint.parse().ok();
        let parts = |image: &Image| {
            image
                .fingerprint
                .parse()
                .ok()
                .and_then(|fingerprint| known.get(&fingerprint))
        };
        let (mut entries, mut pending) = (Vec::new(), Vec::new());
        for image in snapshot.iter() {
            match parts(image) {
                Some(parts) => entries.extend(entry(image, parts)),
                None => pending.push(Pending {
                    fingerprint: image.fingerprint.clone(),
                    problem: digest(image).as_ref().and_then(&problem),
                }),
            }
        }
        let built = simplestreams::build(&entries);
        let mut files = HashMap::new();
        for (place, image) in (0..).zip(snapshot.iter()) {
            let is_listed = built.products.products.contains_key(&image.fingerprint);
            let parts = parts(image)
                .filter(|_| is_listed)
                .into_iter()
                .flat_map(|parts| parts.iter());
            for (index, part) in parts.enumerate() {
                let file = File {
                    sha256: part.sha256,
                    size: part.size,
                    part: index,
                    image: place,
                };
                // The same file may belong to several images. Each of them has all of it.
                files.insert(name(part), file);
            }
        }
        let index = Index::of(PRODUCTS, &built.products).to_json(Layout::Compact)?;
        let products = built.products.to_json(Layout::Compact)?;
        Ok(Self {
            index: CachedJson::raw(index.into_bytes()).compressed(),
            products: CachedJson::raw(products.into_bytes()).compressed(),
            listed: built.products.products.len(),
            omitted: built.omitted,
            snapshot,
            files,
            pending,
        })
    }

    /// Returns the response with one of the documents. Slow readers of old ones count as readers of the snapshot.
    pub(super) fn reply(&self, document: &CachedJson, request: &HeaderMap) -> Reply {
        let mut reply = self.snapshot.lend(document.reply(request), 0);
        reply
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        reply
    }

    /// Returns the file with this name.
    pub(super) fn file(&self, name: &str) -> Option<&File> {
        self.files.get(name)
    }

    /// Returns an image that the file belongs to.
    pub(super) fn image(&self, file: &File) -> &Image {
        self.snapshot.image_at(file.image)
    }
}

/// Returns the name under which a file is published.
fn name(part: &Part) -> String {
    format!("{}{}", part.sha256, part.extension.as_str())
}

fn entry(image: &Image, parts: &[Part]) -> Option<Entry> {
    let content = match parts {
        [unified] => Content::Unified(blob(unified)),
        [metadata, root] => Content::Split {
            metadata: blob(metadata),
            root: blob(root),
            format: match (root.kind, root.format) {
                (PartKind::Rootfs, Format::Squashfs) => RootFormat::Squashfs,
                (PartKind::Rootfs, Format::Xz | Format::Gzip | Format::Zstd | Format::Tar) => RootFormat::Tar,
                (_, Format::Qcow2) => RootFormat::Qcow2,
                (_, other) => RootFormat::Other(format!("{other:?}").to_lowercase()),
            },
        },
        _ => return None,
    };
    Some(Entry {
        fingerprint: image.fingerprint.clone(),
        kind: match image.is_virtual_machine() {
            true => Kind::VirtualMachine,
            false => Kind::Container,
        },
        architecture: image.architecture.clone(),
        properties: image.properties.clone(),
        created_at: image.created().unwrap_or_default(),
        uploaded_at: image.uploaded().unwrap_or_default(),
        expires_at: image.expires().unwrap_or_default(),
        aliases: image.alias_names().map(str::to_owned).collect(),
        content,
    })
}

fn blob(part: &Part) -> Blob {
    Blob {
        sha256: part.sha256.to_string(),
        size: part.size,
        extension: part.extension.as_str().trim_start_matches('.').to_owned(),
    }
}
