//! The export of a stored image, byte for byte: the same for everybody and every time, so that ranges of it make sense.
//!
//! A unified image is its file. A split one is what Incus would send, with a boundary that depends on the fingerprint alone:
//!
//! ```text
//! header of metadata │ metadata │ header of root │ root │ closing delimiter
//! ```

use bytes::Bytes;

use crate::digest::Digest;
use crate::part::{Extension, Part, PartHead, PartKind};

/// The header fields of an image's export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DownloadHead {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Disposition`, which Incus's client needs for a unified image.
    pub content_disposition: Option<String>,
    /// `Content-Length` of the whole export; unknown while a split image is filled.
    pub length: Option<u64>,
}

impl DownloadHead {
    pub(crate) fn unified(fingerprint: &Digest, extension: &Extension, length: u64) -> Self {
        Self {
            content_type: "application/octet-stream".to_owned(),
            content_disposition: Some(format!("inline;filename={fingerprint}{}", extension.as_str())),
            length: Some(length),
        }
    }

    pub(crate) fn split(fingerprint: &Digest, length: Option<u64>) -> Self {
        Self {
            content_type: format!("multipart/form-data; boundary={}", boundary(fingerprint)),
            content_disposition: None,
            length,
        }
    }
}

/// A stretch of the export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Segment {
    Bytes(Bytes),
    /// The whole file of a part, by its index, with its size.
    File(usize, u64),
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }
}

/// What the export of a complete image consists of.
pub(crate) fn segments(fingerprint: &Digest, parts: &[Part]) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(5);
    for (index, part) in parts.iter().enumerate() {
        let header = header(fingerprint, part.kind, &part.extension);
        segments.extend(header.map(Segment::Bytes));
        segments.push(Segment::File(index, part.size));
    }
    if parts.iter().all(|part| part.kind != PartKind::Unified) {
        segments.push(Segment::Bytes(trailer(fingerprint)));
    }
    segments
}

/// Returns where the content of a file begins in the export, by its index among the files of an image.
pub fn part_offset(fingerprint: &Digest, parts: &[Part], index: usize) -> u64 {
    let segments = segments(fingerprint, parts).into_iter();
    let before = segments.take_while(|segment| !matches!(segment, Segment::File(file, _) if *file == index));
    before.map(|segment| segment.len()).sum()
}

/// What comes before the content of a part; nothing before that of a unified image.
pub(crate) fn part_header(fingerprint: &Digest, head: &PartHead) -> Option<Bytes> {
    header(fingerprint, head.kind, &head.extension)
}

fn header(fingerprint: &Digest, kind: PartKind, extension: &Extension) -> Option<Bytes> {
    let name = kind.form_name()?;
    let (line_break, prefix) = match kind {
        PartKind::Metadata => ("", "meta-"),
        _ => ("\r\n", ""),
    };
    let (boundary, extension) = (boundary(fingerprint), extension.as_str());
    let header = format!(
        "{line_break}--{boundary}\r\n\
         Content-Disposition: form-data; name=\"{name}\"; filename=\"{prefix}{fingerprint}{extension}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    Some(header.into())
}

/// What comes after the last part of a split image.
pub(crate) fn trailer(fingerprint: &Digest) -> Bytes {
    format!("\r\n--{}--\r\n", boundary(fingerprint)).into()
}

/// The boundary must not occur in the parts: such an image would contain its own digest, which cannot be constructed. It has
/// the 70 characters that RFC 2046 allows.
fn boundary(fingerprint: &Digest) -> String {
    format!("image-{fingerprint}")
}
