//! The certificates and keys that a configuration names, and digests of their content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use edge::file;

/// Paths, and the content found there.
///
/// Contents are compared instead of modification times: a symlink may point to another file, and a restored backup has
/// its old times.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files(BTreeMap<PathBuf, Content>);

/// SHA-256 of a file. `None` if it cannot be read.
type Content = Option<[u8; SHA256_OUTPUT_LEN]>;

impl Files {
    /// Adds a file with its current content.
    pub fn note(&mut self, path: PathBuf) {
        let content = content(&path);
        self.0.insert(path, content);
    }

    /// Adds a file without reading it.
    pub fn add(&mut self, path: PathBuf) {
        self.0.insert(path, None);
    }

    /// Returns the same paths with their current content.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.paths().map(|path| (path.to_owned(), content(path))).collect())
    }

    /// The absolute paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

fn content(path: &Path) -> Content {
    let bytes = file::read(path).ok()?;
    digest(&SHA256, &bytes).as_ref().try_into().ok()
}
