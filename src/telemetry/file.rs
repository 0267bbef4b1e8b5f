//! A file that lines are added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Open, and never shortened.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    is_failing: bool,
}

/// A file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
pub struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

impl LogFile {
    /// Opens it, and makes it if need be.
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

    /// Whether it could be opened, as far as can be told without making it: who only asks may be somebody else than who
    /// will have to write it.
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

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last [`append`](Self::append) failed.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Adds whole lines.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let appended = self.try_append(lines);
        self.is_failing = appended.is_err();
        appended
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        // Somebody has deleted it: what goes there is read by nobody.
        if self.file.metadata()?.nlink() == 0 {
            self.file = open(&self.path, true)?;
        }
        self.file.write_all(lines)
    }
}

/// Nothing but a file: a pipe would have us wait for its reader.
fn open(path: &Path, create: bool) -> io::Result<File> {
    if path.metadata().is_ok_and(|what| !what.is_file()) {
        return Err(io::Error::other("it is there, and is no file"));
    }
    OpenOptions::new().append(true).create(create).mode(0o640).open(path)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make its folder, and let the gateway's user write there",
        // Which of the two it was cannot be told from within.
        io::ErrorKind::PermissionDenied => {
            "let the gateway's user write in its folder; one that runs already needs a restart for a folder that is new to it"
        }
        _ => "give it another path",
    }
}
