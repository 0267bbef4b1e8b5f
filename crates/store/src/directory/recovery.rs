//! What a process that was killed may have left, and how it is repaired.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use super::{Directory, OpenError, at, options};
use crate::counters::DropReason;
use crate::digest::Digest;
use crate::entry::Entry;

/// Maximum size of an entry in bytes. The store writes less than 1 KiB.
const MAX_ENTRY: u64 = 16 << 10;

/// What is in the store.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The images and when they were last used, more or less.
    pub(crate) entries: Vec<(Entry, SystemTime)>,
    /// Why entries were deleted.
    pub(crate) dropped: Vec<DropReason>,
}

impl Directory {
    pub(super) fn recover(&self) -> Result<Recovered, OpenError> {
        for_each_name(&self.incoming, |entry, name| {
            let is_ours = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if is_ours { delete(entry) } else { Ok(()) }
        })?;
        let files = self.file_sizes()?;
        let mut recovered = Recovered::default();
        for_each_name(&self.images, |file, name| {
            let Some(fingerprint) = name.strip_suffix(".json").and_then(|stem| stem.parse().ok()) else {
                return Ok(());
            };
            match read_entry(file, &fingerprint, &files)? {
                Ok(found) => recovered.entries.push(found),
                Err(reason) => {
                    recovered.dropped.push(reason);
                    delete(file)?;
                }
            }
            Ok(())
        })?;
        self.delete_orphans(&recovered)?;
        Ok(recovered)
    }

    fn file_sizes(&self) -> Result<HashMap<Digest, u64>, OpenError> {
        let mut sizes = HashMap::new();
        for_each_name(&self.files, |entry, name| {
            if let Ok(digest) = name.parse() {
                // Of the name itself, not of what a link leads to.
                let metadata = entry.metadata()?;
                if metadata.is_file() {
                    sizes.insert(digest, metadata.len());
                }
            }
            Ok(())
        })?;
        Ok(sizes)
    }

    fn delete_orphans(&self, recovered: &Recovered) -> Result<(), OpenError> {
        let parts = recovered.entries.iter().flat_map(|(entry, _)| &entry.parts);
        let wanted: HashSet<Digest> = parts.map(|part| part.sha256).collect();
        for_each_name(&self.files, |entry, name| match name.parse::<Digest>() {
            Ok(digest) if !wanted.contains(&digest) => delete(entry),
            _ => Ok(()),
        })
    }
}

/// Reads an entry and checks that its files are there.
fn read_entry(
    file: &DirEntry,
    fingerprint: &Digest,
    files: &HashMap<Digest, u64>,
) -> io::Result<Result<(Entry, SystemTime), DropReason>> {
    let Ok(file) = options().read(true).open(file.path()) else {
        return Ok(Err(DropReason::BadEntry));
    };
    let mut text = Vec::new();
    let is_read = (&file).take(MAX_ENTRY).read_to_end(&mut text).is_ok();
    let Some(entry) = Entry::parse(fingerprint, &text).filter(|_| is_read) else {
        return Ok(Err(DropReason::BadEntry));
    };
    for part in &entry.parts {
        match files.get(&part.sha256) {
            None => return Ok(Err(DropReason::Missing)),
            Some(size) if *size != part.size => return Ok(Err(DropReason::WrongSize)),
            Some(_) => {}
        }
    }
    Ok(Ok((entry, file.metadata()?.modified()?)))
}

/// Calls `each` for everything in a directory whose name is text.
fn for_each_name(path: &Path, mut each: impl FnMut(&DirEntry, &str) -> io::Result<()>) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(at(path))? {
        let entry = entry.map_err(at(path))?;
        if let Some(name) = entry.file_name().to_str() {
            each(&entry, name).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

fn delete(entry: &DirEntry) -> io::Result<()> {
    match entry.file_type()?.is_dir() {
        // Not made by the store, whatever its name.
        true => Ok(()),
        false => fs::remove_file(entry.path()),
    }
}
