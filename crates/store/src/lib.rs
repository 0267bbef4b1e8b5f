//! Verified image files on disk, as the gateway serves them.
//!
//! An image has one or two files, and its fingerprint is the SHA-256 digest of them together. A [`Store`] keeps these files by
//! their own digests and never shows one that is not complete and verified. It knows Incus's *export* of an image, which it is
//! filled from, and gives the same export back, byte for byte the same each time, so that ranges and lengths hold.
//!
//! # Use
//! ```no_run
//! # use bytes::Bytes;
//! # use store::{Claim, ClaimError, Digest, ExportHead, Fill, FillError, Store};
//! # async fn incus_export() -> Option<(String, Option<u64>, Option<String>, Vec<Bytes>)> { None }
//! # fn spawn(_: impl Future) {}
//! # async fn serve(store: &Store, fingerprint: Digest, size: u64) -> Result<(), Box<dyn std::error::Error>> {
//! let mut download = match store.claim(&fingerprint, size).await {
//!     // `image.head()` has the header fields, `image.export(0..1000)` a range.
//!     Ok(Claim::Stored(image)) => image.export(0..image.export_length()),
//!     // `filling.head()` waits for the header fields. If it fails, nothing was sent: stream from Incus.
//!     Ok(Claim::Filling(filling)) => filling.follow(),
//!     Ok(Claim::Vacant(fill)) => {
//!         let filling = fill.filling();
//!         // A task of its own: the client that came first may be slow, or go away.
//!         spawn(fill_from_incus(fill));
//!         filling.follow()
//!     }
//!     // No room, or no descriptors: stream from Incus.
//!     Err(error) => return Err(error.into()),
//! };
//! while let Some(bytes) = download.next().await {
//!     // An error must cut the connection, so that the client does not take the image for complete.
//!     let bytes = bytes?;
//! }
//! # Ok(())
//! # }
//!
//! async fn fill_from_incus(fill: Fill) -> Result<(), FillError> {
//!     // Dropping the fill, as here if Incus does not answer, fails all that follow it.
//!     let Some((content_type, content_length, disposition, body)) = incus_export().await else { return Ok(()) };
//!     let head = ExportHead {
//!         content_type: &content_type,
//!         content_length,
//!         content_disposition: disposition.as_deref(),
//!     };
//!     let mut writer = fill.begin(&head)?;
//!     for chunk in body {
//!         writer.write(chunk).await?;
//!     }
//!     writer.finish().await.map(drop)
//! }
//! ```
//! If the disk fails during a fill, its followers get [`FillError::Disk`] in the middle of their download. They need not fail:
//! ask Incus once more and let a [`Rewrite`] go on from [`Download::position`].
//!
//! When an image is no longer published, [`Store::remove`] it; at the start, remove what [`Store::entries`] lists and Incus does
//! not. Images of Incus's type `oci` have no content hash: do not claim them.
//!
//! # Inside
//! - [`Store::claim`] looks into the `index` (memory), which follows the `directory` (disk, described there).
//! - `export` parses what Incus sends; `fill` writes it. Followers see its `progress`. `layout` is the export that clients get.
//! - `download` reads, on the caller's thread if the page cache has the bytes and else on `threads`. No function but
//!   [`Store::open`] blocks, and none needs a particular runtime.
//! - Each of these modules uses only those after it: `store`, `fill`, `filling`, `image`, `download`, `files` (of an image, open),
//!   `shared` (what all these have in common), `index`, `progress`, `open`. The others use none of them.

mod buffer;
mod counters;
mod damage;
mod digest;
mod directory;
mod download;
mod entry;
mod error;
mod export;
mod files;
mod fill;
mod filling;
mod image;
mod index;
mod layout;
mod open;
mod options;
mod part;
mod progress;
mod read;
mod rewrite;
mod shared;
mod space;
mod store;
mod threads;
mod turnover;

pub use counters::{Counts, DropReason};
pub use digest::{Digest, NotADigest};
pub use directory::{OpenError, is_in_use};
pub use download::{Download, DownloadError};
pub use entry::Entry;
pub use error::{BadExport, ClaimError, FillError, ReadError};
pub use export::ExportHead;
pub use fill::{Fill, FillWriter};
pub use filling::Filling;
pub use image::Image;
pub use layout::DownloadHead;
pub use options::Options;
pub use part::{Extension, Format, Part, PartKind};
pub use rewrite::Rewrite;
pub use store::{Claim, Occupancy, Store};
