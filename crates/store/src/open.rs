//! An image that is in use, as long as somebody has it. The index only knows whether there is such a value.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use crate::entry::Entry;
use crate::space::Blob;

/// An image that is in use, with its files open or about to be.
#[derive(Debug)]
pub(crate) struct OpenImage {
    pub(crate) entry: Arc<Entry>,
    /// The file of each part.
    pub(crate) blobs: Vec<Arc<Blob>>,
    /// Opened once for all readers.
    pub(crate) files: OnceCell<Arc<[Arc<File>]>>,
    /// Locked while files that somebody has changed are verified again.
    pub(crate) checking: Arc<Mutex<()>>,
}

impl OpenImage {
    pub(crate) fn new(entry: Arc<Entry>, blobs: Vec<Arc<Blob>>) -> Self {
        Self {
            entry,
            blobs,
            files: OnceCell::new(),
            checking: Arc::default(),
        }
    }
}

/// An image with its files open.
#[derive(Clone, Debug)]
pub(crate) struct OpenFiles {
    pub(crate) image: Arc<OpenImage>,
    pub(crate) files: Arc<[Arc<File>]>,
}
