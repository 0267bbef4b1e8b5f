//! Which images and files the store has, who uses them, and which go first. It is memory only; the disk follows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::entry::Entry;
use crate::open::OpenImage;
use crate::part::Part;
use crate::progress::FillShared;
use crate::space::{Blob, Space, Usage};
use crate::turnover::Turnover;

/// How often the disk is told that an image is in use.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct Index {
    images: HashMap<Digest, Slot>,
    /// Also files that no image refers to any more but that are not deleted yet.
    blobs: HashMap<Digest, Arc<Blob>>,
    /// Images whose entries on disk are still to be deleted.
    removed: Vec<Digest>,
    pub(crate) fills: HashMap<Digest, Arc<FillShared>>,
    /// No fill starts before.
    pub(crate) suspended_until: Option<Instant>,
    pub(crate) turnover: Turnover,
    /// Counts uses: an image with a higher value was used later.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    /// Alive while the image is in use.
    open: Weak<OpenImage>,
    last_used: u64,
    touched: Option<Instant>,
}

/// What the store knows about an image.
pub(crate) enum LookUp {
    Stored(Used),
    Filling(Arc<FillShared>),
    Missing,
}

/// An image for a reader.
pub(crate) struct Used {
    pub(crate) open: Arc<OpenImage>,
    /// Whether the disk has to be told.
    pub(crate) is_touch_due: bool,
}

impl Index {
    /// Adds an image, as the one used last. Its files are those of this value, unless the store had them.
    pub(crate) fn insert(&mut self, entry: Entry, usage: &Arc<Usage>) -> Arc<OpenImage> {
        for part in &entry.parts {
            let new = || {
                Arc::new(Blob {
                    digest: part.sha256,
                    space: Space::take(usage, part.size),
                })
            };
            self.blobs.entry(part.sha256).or_insert_with(new);
        }
        self.clock += 1;
        let entry = Arc::new(entry);
        let open = self.open(&entry);
        let slot = Slot {
            entry,
            open: Arc::downgrade(&open),
            last_used: self.clock,
            touched: None,
        };
        self.images.insert(open.entry.fingerprint, slot);
        open
    }

    pub(crate) fn look_up(&mut self, fingerprint: &Digest) -> LookUp {
        if let Some(used) = self.use_image(fingerprint) {
            return LookUp::Stored(used);
        }
        let filling = self.fills.get(fingerprint).cloned();
        filling.map_or(LookUp::Missing, LookUp::Filling)
    }

    /// Looks an image up and notes its use.
    pub(crate) fn use_image(&mut self, fingerprint: &Digest) -> Option<Used> {
        let open = self.open_quietly(fingerprint)?;
        self.clock += 1;
        let slot = self.images.get_mut(fingerprint)?;
        slot.last_used = self.clock;
        let is_touch_due = slot.touched.is_none_or(|touched| touched.elapsed() >= TOUCH_INTERVAL);
        if is_touch_due {
            slot.touched = Some(Instant::now());
        }
        Some(Used { open, is_touch_due })
    }

    /// Looks an image up. It counts as in use as long as the value exists, and as not used afterwards.
    pub(crate) fn open_quietly(&mut self, fingerprint: &Digest) -> Option<Arc<OpenImage>> {
        let slot = self.images.get(fingerprint)?;
        let (entry, open) = (Arc::clone(&slot.entry), slot.open.upgrade());
        let open = open.unwrap_or_else(|| self.open(&entry));
        self.images.get_mut(fingerprint)?.open = Arc::downgrade(&open);
        Some(open)
    }

    fn open(&self, entry: &Arc<Entry>) -> Arc<OpenImage> {
        let blobs = entry.parts.iter().filter_map(|part| self.blobs.get(&part.sha256));
        Arc::new(OpenImage::new(Arc::clone(entry), blobs.cloned().collect()))
    }

    /// Removes an image. Its files stay in the index until they are deleted.
    pub(crate) fn remove(&mut self, fingerprint: &Digest) -> bool {
        let is_removed = self.images.remove(fingerprint).is_some();
        self.removed.extend(is_removed.then_some(*fingerprint));
        is_removed
    }

    /// Whether this fill is the one that may store the image.
    pub(crate) fn is_current(&self, fill: &Arc<FillShared>) -> bool {
        self.fills
            .get(&fill.fingerprint)
            .is_some_and(|current| Arc::ptr_eq(current, fill))
    }

    /// Takes a fill out. Returns whether it was the current one.
    pub(crate) fn end_fill(&mut self, fill: &Arc<FillShared>) -> bool {
        let is_current = self.is_current(fill);
        if is_current {
            self.fills.remove(&fill.fingerprint);
        }
        is_current
    }

    /// Removes a damaged file and all images that have it. Returns how many; none if the store has replaced the file since.
    pub(crate) fn remove_damaged(&mut self, blob: &Arc<Blob>) -> usize {
        if !self
            .blobs
            .get(&blob.digest)
            .is_some_and(|known| Arc::ptr_eq(known, blob))
        {
            return 0;
        }
        self.blobs.remove(&blob.digest);
        let has_it = |slot: &&Slot| slot.entry.parts.iter().any(|part| part.sha256 == blob.digest);
        let images = self.images.values().filter(has_it).map(|slot| slot.entry.fingerprint);
        let images: Vec<Digest> = images.collect();
        images.iter().filter(|image| self.remove(image)).count()
    }

    /// Whether the file of this name is one of the index.
    pub(crate) fn has_file(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Takes out what is to be deleted: entries, and then the files that no image refers to. Both at once, so that no file goes
    /// before an entry that names it.
    pub(crate) fn take_garbage(&mut self) -> (Vec<Digest>, Vec<Arc<Blob>>) {
        let wanted: HashSet<Digest> = self.parts().map(|part| part.sha256).collect();
        let is_orphan = |digest: &Digest, _: &mut Arc<Blob>| !wanted.contains(digest);
        let orphans = self.blobs.extract_if(is_orphan).map(|(_, blob)| blob).collect();
        (std::mem::take(&mut self.removed), orphans)
    }

    /// Removes images that are not in use, least recently used first, so that `bytes` become free. Returns how many;
    /// `None`, and nothing is removed, if there are not enough of them.
    pub(crate) fn evict(&mut self, bytes: u64) -> Option<usize> {
        if bytes == 0 {
            return Some(0);
        }
        let mut references: HashMap<Digest, usize> = HashMap::new();
        for part in self.parts() {
            *references.entry(part.sha256).or_default() += 1;
        }
        let is_going = |blob: &&Arc<Blob>| !references.contains_key(&blob.digest) && Arc::strong_count(blob) == 1;
        let mut freed: u64 = self
            .blobs
            .values()
            .filter(is_going)
            .map(|blob| blob.space.bytes())
            .sum();
        let mut unused: Vec<&Slot> = self
            .images
            .values()
            .filter(|slot| slot.open.strong_count() == 0)
            .collect();
        unused.sort_unstable_by_key(|slot| slot.last_used);
        let mut victims = Vec::new();
        for slot in unused {
            if freed >= bytes {
                break;
            }
            for part in &slot.entry.parts {
                let count = references.entry(part.sha256).or_insert(1);
                *count -= 1;
                freed += if *count == 0 { part.size } else { 0 };
            }
            victims.push(slot.entry.fingerprint);
        }
        if freed < bytes {
            return None;
        }
        for victim in &victims {
            self.remove(victim);
        }
        Some(victims.len())
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.images.values().flat_map(|slot| &slot.entry.parts)
    }

    /// How many images there are.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// All images.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.images.values().map(|slot| Arc::clone(&slot.entry)).collect()
    }
}
