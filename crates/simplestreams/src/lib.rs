//! The simplestreams image format, which Incus and LXD clients pull images from any web server with: an index, files with
//! products, and the images' files.
//!
//! The crate reads, writes and builds the documents, and tells what each family of clients sees in them. It neither downloads
//! nor hashes anything.
//!
//! | | |
//! |---|---|
//! | [`Index`], [`Products`] | the documents. `parse` reads what exists in the wild and records what clients stumble over; `to_json` writes what clients read as it is meant, with the keys of others in their order |
//! | [`build()`] | from images to products, for Incus and LXD at once |
//! | [`View`] | the images that the clients of a [`Family`] see, in their order, with their names |
//! | [`check`], [`check_index`] | everything that some clients do not see, cannot use, or read otherwise than it is meant |
//!
//! # Example
//!
//! A container image in two files is published, and found again as clients find it:
//!
//! ```
//! use simplestreams::{Architecture, Blob, Content, Entry, Family, Index, Kind, Layout, Parsed, Products, RootFormat, View};
//!
//! let entry = Entry {
//!     // The SHA-256 of both files, one after the other.
//!     fingerprint: "c3".repeat(32),
//!     kind: Kind::Container,
//!     architecture: "x86_64".to_owned(),
//!     properties: [("os".to_owned(), "Debian".to_owned())].into(),
//!     created_at: 1_700_000_000,
//!     uploaded_at: 1_700_000_000,
//!     expires_at: 0,
//!     aliases: vec!["nginx/amd64".to_owned()],
//!     content: Content::Split {
//!         metadata: Blob { sha256: "a1".repeat(32), size: 672, extension: "tar.xz".to_owned() },
//!         root: Blob { sha256: "b2".repeat(32), size: 71_303_168, extension: "squashfs".to_owned() },
//!         format: RootFormat::Squashfs,
//!     },
//! };
//! let built = simplestreams::build(&[entry]);
//! assert!(built.omitted.is_empty());
//!
//! // What belongs at `streams/v1/index.json` and `streams/v1/images.json`.
//! let index = Index::of("streams/v1/images.json", &built.products).to_json(Layout::Pretty)?;
//! let images = built.products.to_json(Layout::Pretty)?;
//!
//! let read = Products::parse(images.as_bytes())?;
//! assert!(simplestreams::check(&[&read]).is_empty());
//! for family in Family::ALL {
//!     let view = View::of(family, &[&read]);
//!     let image = view.resolve("nginx", None, Architecture::X86_64).expect("every client finds it");
//!     assert_eq!(image.fingerprint, "c3".repeat(32));
//!     assert_eq!(image.files[0].path, format!("images/{}.tar.xz", "a1".repeat(32)));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]

mod architecture;
mod build;
mod date;
mod family;
mod finding;
mod ftype;
mod hashes;
mod model;
mod parse;
mod place;
mod value;
mod view;
mod write;

pub use architecture::Architecture;
pub use build::{Blob, Built, Content, Entry, Kind, Omitted, Reason, RootFormat, build};
pub use family::{Families, Family};
pub use finding::{Finding, INDEX, Problem, Severity, check, check_index};
pub use ftype::Ftype;
pub use hashes::Hashes;
pub use indexmap::IndexMap;
pub use model::{Index, Item, Product, Products, Requirements, Source, Version};
pub use parse::{Deviation, ParseError, Parsed};
pub use place::Place;
pub use value::{Number, Object, Value};
pub use view::{Alias, File, Image, Role, View};
pub use write::{Layout, WriteError};
