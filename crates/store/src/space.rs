//! How much of its size the store takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;

/// How many bytes the store takes.
#[derive(Debug, Default)]
pub(crate) struct Usage(AtomicU64);

impl Usage {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that are counted as taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Space(Arc<Usage>, u64);

impl Space {
    pub(crate) fn take(usage: &Arc<Usage>, bytes: u64) -> Self {
        usage.0.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(usage), bytes)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.1
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// A file on disk. It takes space as long as it exists: until it is deleted, and the last reader has ended.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) space: Space,
}
