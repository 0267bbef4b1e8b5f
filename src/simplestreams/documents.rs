//! The documents of a simplestreams server, and the files they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use edge::generation::{Generation, Holds};
use edge::response::Reply;
use http::HeaderMap;
use simplestreams::{Blob, Content, Entry, Index, Kind, Layout, Omitted, RootFormat, WriteError};
use store::{Digest, Format, Part, PartKind};
use tokio::time::Instant;

use crate::public::cached_response::CachedJson;
use crate::public::image::Image;
use crate::public::snapshot::Snapshot;

/// Where the index says that the products are.
const PRODUCTS: &str = "streams/v1/images.json";

/// Maximum size of documents that are compressed while they are made, in bytes. It takes a few milliseconds.
const QUICKLY_COMPRESSED: usize = 256 << 10;

/// What is known of the images.
pub(super) type KnownFiles = HashMap<Digest, Known>;

/// What is known of an image.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Its files, which need not be in the store at the moment.
    Files(Arc<[Part]>),
    /// Its fingerprint is not the hash of its files.
    Oci,
}

/// The documents of one moment.
#[derive(Debug)]
pub struct Documents {
    /// `/streams/v1/index.json`
    pub(super) index: CachedJson,
    /// `/streams/v1/images.json`
    pub(super) products: CachedJson,
    /// The images that were published at that moment.
    pub(super) snapshot: Arc<Snapshot>,
    /// Accounting of the readers of the documents.
    pub(super) generation: Arc<Generation>,
    /// Until then, the pending images may be about to be listed.
    pub(super) complete_by: Instant,
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
    /// Where it begins in the export of its image.
    pub(super) offset: u64,
    /// The index of its image in the snapshot.
    image: u32,
}

impl Documents {
    /// Makes the documents for these images, as far as their files are known. `problems` says why they are not.
    pub(super) fn build(
        snapshot: Arc<Snapshot>,
        known: &KnownFiles,
        problems: &HashMap<Digest, String>,
        complete_by: Instant,
    ) -> Result<Self, WriteError> {
        let (mut entries, mut pending) = (Vec::new(), Vec::new());
        for image in snapshot.iter() {
            let fingerprint = image.fingerprint.parse().ok();
            match fingerprint.as_ref().and_then(|fingerprint| known.get(fingerprint)) {
                Some(known) => entries.extend(entry(image, known)),
                None => pending.push(Pending {
                    fingerprint: image.fingerprint.clone(),
                    problem: fingerprint.and_then(|fingerprint| problems.get(&fingerprint).cloned()),
                }),
            }
        }
        let built = simplestreams::build(&entries);
        let mut files = HashMap::new();
        for (place, image) in (0..).zip(snapshot.iter()) {
            let is_listed = built.products.products.contains_key(&image.fingerprint);
            let fingerprint: Option<Digest> = image.fingerprint.parse().ok().filter(|_| is_listed);
            let known = fingerprint.and_then(|fingerprint| Some((fingerprint, known.get(&fingerprint)?)));
            let Some((fingerprint, Known::Files(parts))) = known else {
                continue;
            };
            for (index, part) in parts.iter().enumerate() {
                let file = File {
                    sha256: part.sha256,
                    size: part.size,
                    part: index,
                    offset: store::part_offset(&fingerprint, parts, index),
                    image: place,
                };
                // The same file may belong to several images. Each of them has all of it.
                files.insert(name(part), file);
            }
        }
        let index = CachedJson::raw(
            Index::of(PRODUCTS, &built.products)
                .to_json(Layout::Compact)?
                .into_bytes(),
        );
        let products = CachedJson::raw(built.products.to_json(Layout::Compact)?.into_bytes());
        let size = index.size() + products.size();
        let documents = Self {
            generation: Generation::new(size),
            index,
            products,
            listed: built.products.products.len(),
            omitted: built.omitted,
            snapshot,
            files,
            pending,
            complete_by,
        };
        if size <= QUICKLY_COMPRESSED {
            documents.compress();
        }
        Ok(documents)
    }

    /// Adds the compressed forms, unless they are there.
    pub(super) fn compress(&self) {
        self.index.compress();
        self.products.compress();
    }

    /// Whether [`Self::compress`] has been called.
    pub(super) fn is_compressed(&self) -> bool {
        self.products.is_compressed()
    }

    /// Returns the response with one of the documents, which counts as one of their readers until it is sent.
    pub(super) fn reply(&self, document: &CachedJson, request: &HeaderMap) -> Reply {
        let mut reply = document.reply(request);
        let generation = Arc::clone(&self.generation);
        reply.extensions_mut().insert(Holds { generation, own: 0 });
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

fn entry(image: &Image, known: &Known) -> Option<Entry> {
    let content = match known {
        Known::Files(parts) => match &**parts {
            [unified] => Content::Unified(blob(unified)),
            [metadata, root] => Content::Split {
                metadata: blob(metadata),
                root: blob(root),
                format: root_format(root),
            },
            _ => return None,
        },
        Known::Oci => Content::Oci,
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

fn root_format(root: &Part) -> RootFormat {
    match (root.kind, root.format) {
        (PartKind::Rootfs, Format::Squashfs) => RootFormat::Squashfs,
        (PartKind::Rootfs, Format::Xz | Format::Gzip | Format::Zstd | Format::Tar) => RootFormat::Tar,
        // Incus knows further compressions.
        (PartKind::Rootfs, Format::Other) if root.extension.as_str().starts_with(".tar.") => RootFormat::Tar,
        (_, Format::Qcow2) => RootFormat::Qcow2,
        (_, Format::Other) => RootFormat::Other("of an unknown format".to_owned()),
        (_, other) => RootFormat::Other(format!("{other:?}").to_lowercase()),
    }
}

fn blob(part: &Part) -> Blob {
    Blob {
        sha256: part.sha256.to_string(),
        size: part.size,
        extension: part.extension.as_str().trim_start_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use simplestreams::Reason;

    use super::*;
    use crate::config::Visibility;

    fn digest(digits: &str) -> Digest {
        digits.repeat(32).parse().expect("64 digits")
    }

    fn part(digits: &str, kind: PartKind, extension: &str, format: Format) -> Part {
        Part {
            kind,
            sha256: digest(digits),
            size: 5,
            extension: extension.to_owned().try_into().expect("an extension"),
            format,
        }
    }

    fn split(metadata: &str, root: Part) -> Known {
        let metadata = part(metadata, PartKind::Metadata, ".tar.xz", Format::Xz);
        Known::Files([metadata, root].into())
    }

    /// Returns a snapshot with images of these fingerprints.
    fn snapshot(fingerprints: &[&str]) -> Arc<Snapshot> {
        let image = |digits: &&str| {
            json!({
                "public": true, "architecture": "x86_64", "fingerprint": digits.repeat(32), "size": 10,
                "type": "container", "created_at": "2026-11-21T10:00:00Z", "uploaded_at": "2026-11-21T10:00:00Z",
            })
        };
        let images: Vec<_> = fingerprints.iter().map(image).collect();
        let images = json!({ "metadata": images }).to_string();
        let snapshot = Snapshot::parse(br#"{"metadata": {}}"#, images.as_bytes(), Visibility::Public);
        Arc::new(snapshot.expect("an image list"))
    }

    fn squashfs(digits: &str) -> Part {
        part(digits, PartKind::Rootfs, ".squashfs", Format::Squashfs)
    }

    #[test]
    fn an_image_is_listed_pending_or_left_out() {
        let snapshot = snapshot(&["a1", "a2", "a3", "a4", "a5"]);
        let unknown = part("b5", PartKind::Rootfs, "", Format::Other);
        let known = KnownFiles::from([
            (digest("a1"), split("c1", squashfs("b1"))),
            (digest("a2"), Known::Oci),
            (digest("a5"), split("c1", unknown)),
        ]);
        let problems = HashMap::from([(digest("a3"), "the disk is full".to_owned())]);
        let documents = Documents::build(snapshot, &known, &problems, Instant::now()).expect("documents");
        assert_eq!(documents.listed, 1);
        let pending: Vec<_> = documents
            .pending
            .iter()
            .map(|pending| (&pending.fingerprint[..2], pending.problem.as_deref()))
            .collect();
        assert_eq!(pending, [("a3", Some("the disk is full")), ("a4", None)]);
        let omitted: Vec<_> = documents
            .omitted
            .iter()
            .map(|omitted| &omitted.fingerprint[..2])
            .collect();
        assert_eq!(omitted, ["a2", "a5"]);
        assert_eq!(documents.omitted[0].reason, Reason::Oci);
        let names = |digits: &str, extension: &str| format!("{}{extension}", digits.repeat(32));
        assert!(documents.file(&names("c1", ".tar.xz")).is_some());
        assert!(documents.file(&names("b1", ".squashfs")).is_some());
        assert!(documents.file(&names("b1", "")).is_none());
        assert!(documents.file(&names("b5", "")).is_none(), "its image is left out");
    }

    #[test]
    fn a_file_of_several_images_has_one_that_is_listed() {
        let known = KnownFiles::from([
            (digest("a1"), split("c1", squashfs("b1"))),
            (digest("a2"), split("c1", squashfs("b2"))),
        ]);
        let documents =
            Documents::build(snapshot(&["a1", "a2"]), &known, &HashMap::new(), Instant::now()).expect("documents");
        let metadata = documents.file(&format!("{}.tar.xz", "c1".repeat(32))).expect("a file");
        assert!(known.contains_key(&documents.image(metadata).fingerprint.parse().expect("a digest")));
        assert_eq!(metadata.part, 0);
    }

    #[test]
    fn every_compression_of_a_tar_archive_is_one() {
        for (extension, format) in [
            (".tar", Format::Tar),
            (".tar.gz", Format::Gzip),
            (".tar.zst", Format::Zstd),
            (".tar.bz2", Format::Other),
            (".tar.lzma", Format::Other),
        ] {
            let root = part("b1", PartKind::Rootfs, extension, format);
            assert_eq!(root_format(&root), RootFormat::Tar, "{extension}");
        }
    }

    #[test]
    fn a_reader_of_a_document_counts_as_one_of_its_generation() {
        let documents =
            Documents::build(snapshot(&[]), &KnownFiles::new(), &HashMap::new(), Instant::now()).expect("documents");
        let reply = documents.reply(&documents.products, &HeaderMap::new());
        let holds = reply.extensions().get::<Holds>().expect("it holds memory");
        assert!(Arc::ptr_eq(&holds.generation, &documents.generation));
    }
}
