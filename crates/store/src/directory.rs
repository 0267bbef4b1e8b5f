//! The store's directory. Every step leaves it in a state that [`Directory::open`] understands, so that the process may be killed
//! at any moment:
//!
//! ```text
//! lock                    held while the store is open
//! incoming/NUMBER         files in the making; removed when the store is opened
//! files/SHA256            complete files; deleted when opened if no entry refers to them. Their time is fixed, so that changes show
//! images/FINGERPRINT.json one entry per image, written after its files; deleted when opened if a file is missing
//! ```
//!
//! Nothing is ever deleted whose name the store would not have given.

mod recovery;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::entry::Entry;
pub(crate) use recovery::Recovered;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{}: another process uses this store; stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// The file system does not let the store work here.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Adds the path to an error of the system.
fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

#[derive(Debug)]
pub(crate) struct Directory {
    files: PathBuf,
    images: PathBuf,
    incoming: PathBuf,
    next: AtomicU64,
    /// Unlocked by closing it.
    _lock: File,
}

impl Directory {
    /// Creates or opens a store, and repairs what an earlier process has left.
    pub(crate) fn open(path: &Path) -> Result<(Self, Recovered), OpenError> {
        create(path)?;
        let directory = Self {
            files: path.join("files"),
            images: path.join("images"),
            incoming: path.join("incoming"),
            next: AtomicU64::new(0),
            _lock: lock(path)?,
        };
        for path in [&directory.files, &directory.images, &directory.incoming] {
            create(path)?;
        }
        let recovered = directory.recover()?;
        Ok((directory, recovered))
    }

    /// Creates an empty file under a temporary name.
    pub(crate) fn create(&self) -> io::Result<Incoming> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        let file = options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Incoming {
            path,
            file: Arc::new(file),
        })
    }

    /// Gives a complete, synchronised file its final name. A file that has this name already has the same content, unless it is
    /// damaged; its readers keep it.
    pub(crate) fn publish(&self, incoming: &Incoming, digest: &Digest) -> io::Result<()> {
        fs::rename(&incoming.path, self.file(digest))
    }

    /// Makes the names of published files durable.
    pub(crate) fn sync_files(&self) -> io::Result<()> {
        sync(&self.files)
    }

    /// Writes an entry, whose files are durable already.
    pub(crate) fn write_entry(&self, entry: &Entry) -> io::Result<()> {
        let incoming = self.create()?;
        (&*incoming.file).write_all(&serde_json::to_vec(entry)?)?;
        // As [`Self::touch`] does. The kernel's own time of writing is milliseconds behind, so that the order would be wrong.
        incoming.file.set_modified(SystemTime::now())?;
        incoming.file.sync_all()?;
        fs::rename(&incoming.path, self.entry(&entry.fingerprint))?;
        sync(&self.images)
    }

    /// Opens a complete file for reading.
    pub(crate) fn open_file(&self, digest: &Digest) -> io::Result<File> {
        options().read(true).open(self.file(digest))
    }

    pub(crate) fn delete_file(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.file(digest))
    }

    pub(crate) fn delete_entry(&self, fingerprint: &Digest) -> io::Result<()> {
        fs::remove_file(self.entry(fingerprint))
    }

    /// Remembers that an image was used now, for the order of eviction after a restart.
    pub(crate) fn touch(&self, fingerprint: &Digest) -> io::Result<()> {
        File::open(self.entry(fingerprint))?.set_modified(SystemTime::now())
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.files.join(digest.to_string())
    }

    fn entry(&self, fingerprint: &Digest) -> PathBuf {
        self.images.join(format!("{fingerprint}.json"))
    }
}

/// The time of the last change of every file whose content was verified, set afterwards. A file that was changed since has another.
const SEAL: Duration = Duration::from_secs(1_000_000_000);

/// Returns whether nobody has changed this file since its content was verified. Not more than a look at the inode, in memory.
pub(crate) fn is_sealed(file: &File) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified == SystemTime::UNIX_EPOCH + SEAL)
}

/// Marks the content of a file as verified.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    file.set_modified(SystemTime::UNIX_EPOCH + SEAL)
}

/// A file under a temporary name, deleted when dropped unless it got another name.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    pub(crate) file: Arc<File>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted when the store is opened.
        let _ = fs::remove_file(&self.path);
    }
}

/// Only the owner reads and writes, and nothing but a plain file is opened: a link could lead out of the store.
fn options() -> OpenOptions {
    plain(OFlags::empty())
}

fn plain(more: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

fn create(path: &Path) -> Result<(), OpenError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(at(path))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock = path.join("lock");
    // Not for writing: a file system can become read-only only while no file is open for writing, and the store still serves then.
    let file = plain(OFlags::CREATE).read(true).open(&lock).map_err(at(&lock))?;
    // Somebody who only asks whether the store is in use has the lock for a moment.
    let mut tries = 10;
    let locked = loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if tries > 0 => tries -= 1,
            result => break result,
        }
        thread::sleep(Duration::from_millis(10));
    };
    match locked {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse(path.to_owned())),
        Err(error) => Err(at(&lock)(error.into())),
    }
}

/// Returns whether a process has the store in this directory open. It changes nothing.
pub fn is_in_use(path: &Path) -> bool {
    let file = plain(OFlags::empty()).read(true).open(path.join("lock"));
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
