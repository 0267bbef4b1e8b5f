//! An entry of the index: which files an image consists of.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::part::{Part, PartKind};

/// A complete image in the store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// SHA-256 digest of all parts together.
    pub fingerprint: Digest,
    /// One unified part, or the metadata and then the root.
    pub parts: Vec<Part>,
}

impl Entry {
    /// Parses an entry. `None` unless it is one of this image.
    pub(crate) fn parse(fingerprint: &Digest, text: &[u8]) -> Option<Self> {
        let entry: Self = serde_json::from_slice(text).ok()?;
        let kinds: Vec<PartKind> = entry.parts.iter().map(|part| part.kind).collect();
        let is_whole = match kinds[..] {
            [PartKind::Unified] => entry.parts[0].sha256 == entry.fingerprint,
            [PartKind::Metadata, PartKind::Rootfs | PartKind::Disk] => true,
            _ => false,
        };
        (is_whole && entry.fingerprint == *fingerprint).then_some(entry)
    }

    /// Size of all parts in bytes.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).fold(0, u64::saturating_add)
    }
}
