//! The export that clients get, made from the one that Incus sends, without the disk: for the rest of a download whose fill has
//! failed, and for images that the store does not take.

use bytes::{Buf, Bytes};

use crate::digest::{Digest, Hasher};
use crate::error::BadExport;
use crate::export::{Event, ExportHead, ExportParser, check_fingerprint};
use crate::layout::{self, DownloadHead};

/// Rewrites an export of Incus into the export that a [`Download`](crate::Download) of the same image returns, byte for byte. So a
/// download can go on where another one has failed.
///
/// The end comes only after the fingerprint was checked.
#[derive(Debug)]
pub struct Rewrite {
    fingerprint: Digest,
    parser: ExportParser,
    head: DownloadHead,
    whole: Hasher,
    output: Output,
}

/// What comes out.
#[derive(Debug, Default)]
struct Output {
    chunks: Vec<Bytes>,
    /// How many bytes are still left out.
    skip: u64,
    /// The last byte so far of a unified image, which has no other end that could be held back.
    held: Option<Bytes>,
}

impl Rewrite {
    /// Starts with the header of Incus's response. `size` is what Incus says the image has, in bytes; the first `skip` bytes of
    /// the export are left out.
    ///
    /// # Errors
    /// If it is not the header of an image.
    pub fn new(fingerprint: Digest, size: u64, head: &ExportHead<'_>, skip: u64) -> Result<Self, BadExport> {
        let parser = ExportParser::new(head, size)?;
        let held = parser.unified_head().map(|_| Bytes::new());
        Ok(Self {
            fingerprint,
            head: parser.download_head(&fingerprint),
            parser,
            whole: Hasher::new(),
            output: Output {
                skip,
                held,
                ..Output::default()
            },
        })
    }

    /// The header fields of the whole export.
    pub fn head(&self) -> &DownloadHead {
        &self.head
    }

    /// Takes the next bytes of Incus's body and returns those for the client.
    ///
    /// # Errors
    /// If the bytes are not the image.
    pub fn push(&mut self, chunk: Bytes) -> Result<Vec<Bytes>, BadExport> {
        let Self {
            fingerprint,
            parser,
            whole,
            output,
            ..
        } = self;
        parser.push(chunk, &mut |event| {
            match event {
                Event::Part(head) => output.send(layout::part_header(fingerprint, &head).unwrap_or_default()),
                Event::Data(data) => {
                    whole.update(&data);
                    output.send(data);
                }
            }
            Ok::<_, BadExport>(())
        })?;
        Ok(std::mem::take(&mut self.output.chunks))
    }

    /// Ends Incus's body, checks the fingerprint and returns the end for the client.
    ///
    /// # Errors
    /// If the bytes are not the image.
    pub fn finish(mut self) -> Result<Vec<Bytes>, BadExport> {
        self.parser.finish()?;
        check_fingerprint(self.fingerprint, self.whole.finish())?;
        let end = self
            .output
            .held
            .take()
            .unwrap_or_else(|| layout::trailer(&self.fingerprint));
        self.output.pass(end);
        Ok(self.output.chunks)
    }
}

impl Output {
    fn send(&mut self, mut bytes: Bytes) {
        if let (Some(held), false) = (&mut self.held, bytes.is_empty()) {
            let last = bytes.split_off(bytes.len() - 1);
            let before = std::mem::replace(held, last);
            self.pass(before);
        }
        self.pass(bytes);
    }

    fn pass(&mut self, mut bytes: Bytes) {
        // No more than `bytes.len()`, and so a `usize`.
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes.advance(skipped as usize);
        if !bytes.is_empty() {
            self.chunks.push(bytes);
        }
    }
}
