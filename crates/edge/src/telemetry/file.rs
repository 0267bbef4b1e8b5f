//! An append-only log file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file opened for appending. It is never truncated.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    is_failing: bool,
}

/// A log file could not be opened.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
pub struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

impl LogFile {
    /// Opens the file, and creates it if necessary.
    ///
    /// # Errors
    ///
    /// Fails if the path is not a regular file or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LogFileError> {
        let file = open(path, true).map_err(|source| LogFileError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_failing: false,
        })
    }

    /// Checks whether the file could be opened, as far as possible without creating it: the caller may be a different
    /// user than the one that will write it.
    ///
    /// # Errors
    ///
    /// Fails if the path is not a regular file, cannot be opened, or has no parent directory.
    pub fn probe(path: &Path) -> Result<(), LogFileError> {
        let probed = match open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder.unwrap_or_else(|| Path::new(".")).metadata().map(drop)
            }
            opened => opened.map(drop),
        };
        probed.map_err(|source| LogFileError {
            path: path.to_owned(),
            source,
        })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last [`append`](Self::append) failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Appends complete lines.
    ///
    /// # Errors
    ///
    /// Fails if writing fails, or if a deleted file cannot be created again.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let appended = self.try_append(lines);
        self.is_failing = appended.is_err();
        appended
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        // The file was deleted: create it again, so that the lines are readable.
        if self.file.metadata()?.nlink() == 0 {
            self.file = open(&self.path, true)?;
        }
        self.file.write_all(lines)
    }
}

/// Opens regular files only: a pipe would block until it is read.
fn open(path: &Path, create: bool) -> io::Result<File> {
    if path.metadata().is_ok_and(|what| !what.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    OpenOptions::new().append(true).create(create).mode(0o640).open(path)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create its folder, and give the gateway's user write permission there",
        // The sandbox and file permissions cause the same error.
        io::ErrorKind::PermissionDenied => {
            "give the gateway's user write permission in its folder; a running gateway needs a restart to write in a new folder"
        }
        _ => "specify another path",
    }
}
