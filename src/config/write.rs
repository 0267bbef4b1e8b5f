//! Creation of a configuration file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a new configuration file. It does not overwrite a file, except the unchanged example. The file is
/// world-readable whatever the umask, so that the gateway's user can read it.
///
/// # Errors
///
/// Fails if the file exists with other content, or if writing fails.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("toml.{}", std::process::id()));
    // `create_new` does not follow a symlink at this path.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    // A rename would overwrite an existing file.
    let put = if is_example(path) { fs::rename } else { fs::hard_link };
    let created = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| put(&aside, path));
    // Clean up in any case. After a rename, the file is already gone.
    let _ = fs::remove_file(&aside);
    match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && holds(path, text) => Ok(()),
        created => created,
    }
}

/// Whether the file is the unchanged example that the package installs.
pub fn is_example(path: &Path) -> bool {
    holds(path, include_str!("../../proxy.toml.example"))
}

/// Whether the file has exactly this content. Only regular files of the same length are read, so this does not block on
/// a terminal, pipe or endless device.
fn holds(path: &Path, text: &str) -> bool {
    let is_as_long = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == text.len() as u64);
    is_as_long && fs::read(path).is_ok_and(|found| found == text.as_bytes())
}
