//! Images made of pseudo-random bytes, and the exports that Incus would send of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use store::{Claim, Digest, Download, DownloadError, ExportHead, Fill, FillError, Image, Options, Rewrite, Store};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::timeout;

pub(crate) const BOUNDARY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2";
pub(crate) const MIB: u64 = 1 << 20;
/// Many times what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An image, and what Incus says of it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// One unified file, or metadata and root.
    pub(crate) parts: Vec<Vec<u8>>,
    pub(crate) fingerprint: Digest,
}

impl Sample {
    pub(crate) fn new(parts: Vec<Vec<u8>>) -> Self {
        let fingerprint = Digest::of(&parts.concat());
        Self { parts, fingerprint }
    }

    pub(crate) fn split(seed: u64, metadata: usize, root: usize) -> Self {
        Self::new(vec![noise(seed, metadata), noise(seed + 1_000_000, root)])
    }

    pub(crate) fn unified(seed: u64, size: usize) -> Self {
        Self::new(vec![noise(seed, size)])
    }

    pub(crate) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    pub(crate) fn content_type(&self) -> String {
        match self.parts.len() {
            1 => "application/octet-stream".to_owned(),
            _ => format!("multipart/form-data; boundary={BOUNDARY}"),
        }
    }

    /// The body as Incus sends it, with the closing delimiter twice.
    pub(crate) fn body(&self) -> Vec<u8> {
        match &self.parts[..] {
            [_, _] => [self.multipart(BOUNDARY), format!("\r\n--{BOUNDARY}--\r\n").into()].concat(),
            _ => self.parts.concat(),
        }
    }

    /// The body as the store serves it.
    pub(crate) fn export(&self) -> Vec<u8> {
        match &self.parts[..] {
            [_, _] => self.multipart(&format!("image-{}", self.fingerprint)),
            _ => self.parts.concat(),
        }
    }

    fn multipart(&self, boundary: &str) -> Vec<u8> {
        let header = |name: &str, file: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )
        };
        let fingerprint = self.fingerprint;
        let metadata = header("metadata", &format!("meta-{fingerprint}.tar.xz"));
        let root = header("rootfs", &format!("{fingerprint}.squashfs"));
        let end = format!("\r\n--{boundary}--\r\n");
        let [metadata, first, root, second, end] = [
            metadata.as_bytes(),
            &self.parts[0],
            root.as_bytes(),
            &self.parts[1],
            end.as_bytes(),
        ];
        [metadata, first, b"\r\n", root, second, end].concat()
    }

    pub(crate) fn rewrite(&self, skip: u64) -> Rewrite {
        let rewrite = self.with_head(|head| Rewrite::new(self.fingerprint, self.size(), head, skip));
        rewrite.expect("a good header")
    }

    /// Calls `with` with the header that Incus sends.
    pub(crate) fn with_head<T>(&self, with: impl FnOnce(&ExportHead<'_>) -> T) -> T {
        let (content_type, file_name) = (
            self.content_type(),
            format!("inline;filename={}.tar.xz", self.fingerprint),
        );
        let is_unified = self.parts.len() == 1;
        with(&ExportHead {
            content_type: &content_type,
            content_length: is_unified.then_some(self.size()),
            content_disposition: is_unified.then_some(file_name.as_str()),
        })
    }

    /// Fills the store with a body, in chunks of this size.
    pub(crate) async fn send(&self, fill: Fill, body: &[u8], chunk: usize) -> Result<Option<Image>, FillError> {
        let mut writer = self.with_head(|head| fill.begin(head))?;
        for chunk in body.chunks(chunk.max(1)) {
            writer.write(Bytes::copy_from_slice(chunk)).await?;
        }
        writer.finish().await
    }

    pub(crate) async fn claim(&self, store: &Store) -> Claim {
        store.claim(&self.fingerprint, self.size()).await.expect("a claim")
    }

    pub(crate) async fn vacant(&self, store: &Store) -> Fill {
        match self.claim(store).await {
            Claim::Vacant(fill) => fill,
            other => panic!("not vacant: {other:?}"),
        }
    }

    pub(crate) async fn stored(&self, store: &Store) -> Image {
        match self.claim(store).await {
            Claim::Stored(image) => image,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// Fills the store as it should be.
    pub(crate) async fn fill(&self, store: &Store) -> Image {
        let fill = self.vacant(store).await;
        let image = self.send(fill, &self.body(), 16 << 10).await;
        image.expect("a good export").expect("nobody removed it")
    }
}

/// Reads to the end.
pub(crate) async fn read(mut download: Download) -> Result<Vec<u8>, (Vec<u8>, DownloadError)> {
    let mut bytes = Vec::new();
    while let Some(next) = download.next().await {
        match next {
            Ok(chunk) => {
                assert!(
                    (1..=64 << 10).contains(&chunk.len()),
                    "a chunk of {} bytes",
                    chunk.len()
                );
                bytes.extend(chunk);
            }
            Err(error) => return Err((bytes, error)),
        }
        assert_eq!(download.position(), bytes.len() as u64);
    }
    Ok(bytes)
}

pub(crate) async fn read_all(image: &Image) -> Vec<u8> {
    read(image.export(0..u64::MAX)).await.expect("a readable image")
}

/// Bytes that never repeat for another seed, with line breaks and beginnings of delimiters in them.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(length + 70);
    while bytes.len() < length {
        match random.below(64) {
            0 => {
                bytes.extend_from_slice(&format!("\r\n--{BOUNDARY}").as_bytes()[..1 + random.below(63)]);
                // Otherwise chance could complete the delimiter, which no part may contain.
                bytes.push(b'\r');
            }
            _ => bytes.extend(random.next().to_le_bytes()),
        }
    }
    bytes.truncate(length);
    bytes
}

/// A small generator (SplitMix64), so that a seed says all.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }
}

/// A folder in memory, where `fsync` costs nothing.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a temporary folder")
}

pub(crate) fn open(path: &Path, size: u64) -> Store {
    let mut options = Options::new(path, size);
    options.retry = Duration::ZERO;
    Store::open(&options).expect("a store")
}

/// Runs a future as a worker would, and not for ever.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("it hangs") })
}

/// The names in one of the store's folders.
pub(crate) fn names(path: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(path.join(folder)).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

/// Nothing is left of a fill.
pub(crate) async fn assert_empty(store: &Store, path: &Path) {
    store.settle().await;
    for folder in ["files", "images", "incoming"] {
        assert_eq!(names(path, folder), Vec::<String>::new(), "in {folder}");
    }
    assert_eq!(store.occupancy().bytes, 0);
    assert_eq!((store.occupancy().images, store.occupancy().filling), (0, 0));
}
