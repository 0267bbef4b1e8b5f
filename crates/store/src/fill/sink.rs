//! Where the parts of an export go: each into a file of its own, hashed while it is written. Runs on the store's threads.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Digest, Hasher};
use crate::directory::{self, Incoming};
use crate::entry::Entry;
use crate::error::FillError;
use crate::export::{Event, check_fingerprint};
use crate::part::{Format, Part, PartHead, PartKind};
use crate::progress::{FillShared, Growing};
use crate::shared::Shared;

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) store: Arc<Shared>,
    pub(super) shared: Arc<FillShared>,
    /// Of all parts together.
    whole: Hasher,
    files: Vec<PartFile>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct PartFile {
    head: PartHead,
    incoming: Incoming,
    /// `None` if it is the whole.
    hasher: Option<Hasher>,
    size: u64,
    /// The first bytes.
    prefix: Vec<u8>,
}

impl Sink {
    pub(super) fn new(store: Arc<Shared>, shared: Arc<FillShared>) -> Self {
        Self {
            store,
            shared,
            whole: Hasher::new(),
            files: Vec::with_capacity(2),
            parts: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, event: Event) -> Result<(), FillError> {
        match event {
            Event::Part(head) => {
                let hasher = (head.kind != PartKind::Unified).then(Hasher::new);
                let incoming = self.store.directory.create()?;
                self.files.push(PartFile {
                    head,
                    incoming,
                    hasher,
                    size: 0,
                    prefix: Vec::new(),
                });
            }
            Event::Data(data) => {
                self.whole.update(&data);
                if let Some(file) = self.files.last_mut() {
                    file.write(&data)?;
                }
            }
        }
        Ok(())
    }

    /// Tells the followers how far the files are.
    pub(super) fn report(&self) {
        let last = self.files.len().saturating_sub(1);
        let growing = self.files.iter().enumerate().map(|(index, file)| Growing {
            head: file.head.clone(),
            file: Arc::clone(&file.incoming.file),
            written: file.size,
            is_complete: index < last,
        });
        self.shared
            .progress
            .send_modify(|progress| progress.parts = growing.collect());
    }

    /// Checks the fingerprint and makes the files durable.
    pub(super) fn complete(&mut self) -> Result<(), FillError> {
        let whole = self.whole.clone().finish();
        check_fingerprint(self.shared.fingerprint, whole)?;
        self.shared.progress.send_modify(|progress| progress.is_verified = true);
        for file in &mut self.files {
            directory::seal(&file.incoming.file)?;
            file.incoming.file.sync_all()?;
            self.parts.push(file.describe(whole));
        }
        Ok(())
    }

    /// The entry for the index, after [`Self::complete`].
    pub(super) fn entry(&self) -> Entry {
        Entry {
            fingerprint: self.shared.fingerprint,
            parts: self.parts.clone(),
        }
    }

    /// The complete files, with their digests.
    pub(super) fn files(&self) -> impl Iterator<Item = (Digest, &Incoming)> {
        let digests = self.parts.iter().map(|part| part.sha256);
        digests.zip(self.files.iter().map(|file| &file.incoming))
    }
}

impl PartFile {
    fn write(&mut self, data: &Bytes) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
        let missing = Format::PREFIX - self.prefix.len();
        self.prefix.extend_from_slice(&data[..data.len().min(missing)]);
        (&*self.incoming.file).write_all(data)?;
        self.size += data.len() as u64;
        Ok(())
    }

    fn describe(&mut self, whole: Digest) -> Part {
        Part {
            kind: self.head.kind,
            sha256: self.hasher.take().map_or(whole, Hasher::finish),
            size: self.size,
            extension: self.head.extension.clone(),
            format: Format::sniff(&self.prefix),
        }
    }
}
