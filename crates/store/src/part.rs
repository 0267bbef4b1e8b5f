//! The files that an image consists of.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::BadExport;

/// Maximum length of an [`Extension`]. Incus's longest is `.squashfs`, or `.tar.lzma`.
const MAX_EXTENSION: usize = 16;

/// One file of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is to the image.
    pub kind: PartKind,
    /// Digest of the file.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Extension of its file name in Incus's export.
    pub extension: Extension,
    /// Format, as its first bytes tell.
    pub format: Format,
}

/// What is known of a part before its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PartHead {
    pub(crate) kind: PartKind,
    pub(crate) extension: Extension,
}

/// What a file is to its image. An image is either one `Unified` file, or `Metadata` followed by `Rootfs` or `Disk`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// Metadata and root file system in one file.
    Unified,
    /// `metadata.yaml` and templates.
    Metadata,
    /// Root file system of a container.
    Rootfs,
    /// Disk of a virtual machine.
    Disk,
}

impl PartKind {
    /// Name of the part in Incus's multipart export; none if the image is not split.
    pub(crate) fn form_name(self) -> Option<&'static str> {
        match self {
            Self::Unified => None,
            Self::Metadata => Some("metadata"),
            Self::Rootfs => Some("rootfs"),
            Self::Disk => Some("rootfs.img"),
        }
    }
}

/// A file format.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A squashfs file system.
    Squashfs,
    /// A qcow2 disk.
    Qcow2,
    /// Compressed with xz.
    Xz,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with Zstandard.
    Zstd,
    /// A tar archive without compression.
    Tar,
    /// Anything else.
    Other,
}

impl Format {
    /// How many bytes of a file [`Self::sniff`] needs: the magic of tar ends there.
    pub(crate) const PREFIX: usize = 262;

    /// Returns the format of a file with these first bytes.
    pub(crate) fn sniff(prefix: &[u8]) -> Self {
        const MAGIC: [(usize, &[u8], Format); 6] = [
            (0, b"hsqs", Format::Squashfs),
            (0, b"QFI\xfb", Format::Qcow2),
            (0, b"\xfd7zXZ\0", Format::Xz),
            (0, b"\x1f\x8b", Format::Gzip),
            (0, b"\x28\xb5\x2f\xfd", Format::Zstd),
            (257, b"ustar", Format::Tar),
        ];
        let is = |offset: usize, magic: &[u8]| prefix.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        let found = MAGIC.into_iter().find(|(offset, magic, _)| is(*offset, magic));
        found.map_or(Self::Other, |(_, _, format)| format)
    }
}

/// The extension of a file name, with its first dot: `.tar.xz`, or empty.
///
/// Nothing else of a file name that Incus sends is kept, and this much only if it consists of lower-case letters, digits and
/// single dots. So it is safe in a header and in a path.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Extension(Box<str>);

impl Extension {
    /// Takes the extension from a file name.
    ///
    /// # Errors
    /// [`BadExport::FileName`] if the name is no plain file name or the extension has other characters.
    pub(crate) fn of(file_name: &str) -> Result<Self, BadExport> {
        let bad = || BadExport::FileName(file_name.chars().take(80).collect());
        let is_plain = |c: char| !c.is_control() && c != '/' && c != '\\';
        if file_name.is_empty() || file_name.contains("..") || !file_name.chars().all(is_plain) {
            return Err(bad());
        }
        let start = file_name.find('.').unwrap_or(file_name.len());
        file_name[start..].to_owned().try_into().map_err(|_| bad())
    }

    /// The extension with its dot, or nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Extension {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_label = |label: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            !label.is_empty() && label.bytes().all(is_allowed)
        };
        let is_valid = match text.strip_prefix('.') {
            None => text.is_empty(),
            Some(labels) => text.len() <= MAX_EXTENSION && labels.split('.').all(is_label),
        };
        match is_valid {
            true => Ok(Self(text.into())),
            false => Err("not an extension of lower-case letters and digits"),
        }
    }
}

impl From<Extension> for String {
    fn from(extension: Extension) -> Self {
        extension.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let mut tar = vec![0; 257];
        tar.extend(b"ustar\0");
        let cases: [(&[u8], Format); 8] = [
            (b"hsqs\x07", Format::Squashfs),
            (b"QFI\xfb\0\0\0\x03", Format::Qcow2),
            (b"\xfd7zXZ\0\0", Format::Xz),
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (&tar[..Format::PREFIX], Format::Tar),
            (&tar[..Format::PREFIX - 1], Format::Other),
            (b"", Format::Other),
        ];
        for (prefix, format) in cases {
            assert_eq!(Format::sniff(prefix), format);
        }
    }

    #[test]
    fn only_harmless_extensions_are_kept() {
        let good = [
            ("meta-0f.tar.xz", ".tar.xz"),
            ("0f.squashfs", ".squashfs"),
            ("0f", ""),
            ("0f.qcow2", ".qcow2"),
        ];
        for (name, extension) in good {
            assert_eq!(Extension::of(name).expect(name).as_str(), extension);
        }
        let bad = [
            "",
            "a/b.xz",
            "a\\b.xz",
            "a\0.xz",
            "..",
            "a..xz",
            "a.x\"z",
            "a.",
            "a.XZ",
            "a.x z",
            "a.\r\nx",
            "a.é",
            "a.abcdefghijklmnop",
            ".",
        ];
        for name in bad {
            assert!(Extension::of(name).is_err(), "{name:?}");
        }
    }
}
