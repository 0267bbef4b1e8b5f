//! Incus's export of an image, as it arrives: what its header announces, and the parts in its body.
//!
//! An export is accepted only in the two forms that Incus sends. A unified image is `application/octet-stream` with a length;
//! a split one is `multipart/form-data` with the parts `metadata` and then `rootfs` or `rootfs.img`.

mod multipart;
mod parameters;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::BadExport;
use crate::layout::DownloadHead;
use crate::part::{Extension, PartHead, PartKind};
use multipart::Multipart;
use parameters::parameter;

/// The header fields of Incus's response that matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportHead<'a> {
    /// `Content-Type`.
    pub content_type: &'a str,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// `Content-Disposition`.
    pub content_disposition: Option<&'a str>,
}

/// What the body of an export contains, in order.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Event {
    Part(PartHead),
    Data(Bytes),
}

/// Splits the body of an export into its parts, and checks everything that can be checked without a hash.
#[derive(Debug)]
pub(crate) struct ExportParser {
    framing: Framing,
    /// How many bytes of content may still come.
    room: u64,
    limit: u64,
}

#[derive(Debug)]
enum Framing {
    /// The part is announced once, with the first bytes.
    Unified {
        head: Option<PartHead>,
    },
    Split(Box<Multipart>),
}

impl ExportParser {
    /// Starts with the header. The parts may have `limit` bytes in total.
    pub(crate) fn new(head: &ExportHead<'_>, limit: u64) -> Result<Self, BadExport> {
        let (media_type, rest) = match head.content_type.split_once(';') {
            Some((media_type, rest)) => (media_type, rest),
            None => (head.content_type, ""),
        };
        let bad_type = || BadExport::ContentType(head.content_type.chars().take(80).collect());
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/octet-stream" => Self::unified(head, limit),
            "multipart/form-data" => {
                let boundary = parameter(rest, "boundary").ok_or_else(bad_type)?;
                let framing = Framing::Split(Box::new(Multipart::new(&boundary)?));
                Ok(Self {
                    framing,
                    room: limit,
                    limit,
                })
            }
            _ => Err(bad_type()),
        }
    }

    fn unified(head: &ExportHead<'_>, limit: u64) -> Result<Self, BadExport> {
        let length = head
            .content_length
            .filter(|length| *length > 0)
            .ok_or(BadExport::NoLength)?;
        if length > limit {
            return Err(BadExport::TooLong(limit));
        }
        let (_, rest) = head
            .content_disposition
            .unwrap_or_default()
            .split_once(';')
            .unwrap_or_default();
        let file_name = parameter(rest, "filename").unwrap_or_default();
        let head = PartHead {
            kind: PartKind::Unified,
            extension: Extension::of(&file_name)?,
        };
        Ok(Self {
            framing: Framing::Unified { head: Some(head) },
            room: length,
            limit: length,
        })
    }

    /// The part of a unified image, before its first byte.
    pub(crate) fn unified_head(&self) -> Option<&PartHead> {
        match &self.framing {
            Framing::Unified { head } => head.as_ref(),
            Framing::Split(_) => None,
        }
    }

    /// The header fields for clients, before the first byte.
    pub(crate) fn download_head(&self, fingerprint: &Digest) -> DownloadHead {
        match self.unified_head() {
            Some(part) => DownloadHead::unified(fingerprint, &part.extension, self.limit),
            None => DownloadHead::split(fingerprint, None),
        }
    }

    /// Takes the next bytes of the body and calls `each` for what they contain.
    pub(crate) fn push<E: From<BadExport>>(
        &mut self,
        chunk: Bytes,
        each: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { framing, room, limit } = self;
        let mut count = |event| {
            if let Event::Data(data) = &event {
                *room = room.checked_sub(data.len() as u64).ok_or(BadExport::TooLong(*limit))?;
            }
            each(event)
        };
        match framing {
            Framing::Unified { head } => {
                if let Some(head) = head.take() {
                    count(Event::Part(head))?;
                }
                count(Event::Data(chunk))
            }
            Framing::Split(multipart) => multipart.push(chunk, &mut count),
        }
    }

    /// Ends the body.
    pub(crate) fn finish(&self) -> Result<(), BadExport> {
        match &self.framing {
            Framing::Unified { .. } if self.room == 0 => Ok(()),
            Framing::Unified { .. } => Err(BadExport::Torn),
            Framing::Split(multipart) => multipart.finish(),
        }
    }
}

/// The fingerprint that an export must have.
pub(crate) fn check_fingerprint(fingerprint: Digest, actual: Digest) -> Result<(), BadExport> {
    match fingerprint == actual {
        true => Ok(()),
        false => Err(BadExport::WrongHash { fingerprint, actual }),
    }
}
