//! The certificates and keys that a configuration names, and what was in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::file;

/// Paths, and what was found there.
///
/// Contents are compared, not dates: a symlink may have come to point elsewhere, and who restores a backup restores its
/// dates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files(BTreeMap<PathBuf, Content>);

/// The SHA-256 of a file; `None` if it cannot be read.
type Content = Option<[u8; SHA256_OUTPUT_LEN]>;

impl Files {
    /// Adds a file as it is now.
    pub fn note(&mut self, path: PathBuf) {
        let content = content(&path);
        self.0.insert(path, content);
    }

    /// Adds a file that has not been looked at.
    pub fn add(&mut self, path: PathBuf) {
        self.0.insert(path, None);
    }

    /// The same paths, looked at anew.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.paths().map(|path| (path.to_owned(), content(path))).collect())
    }

    /// Their absolute paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

fn content(path: &Path) -> Content {
    let bytes = file::read(path).ok()?;
    digest(&SHA256, &bytes).as_ref().try_into().ok()
}
