//! A configuration that a command writes.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes one where none is: never over another, but for the bare example. The gateway's user can read it, whatever the
/// umask of who runs this.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("toml.{}", std::process::id()));
    // Not through a link that somebody has laid there.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    // A rename would overwrite.
    let put = if is_example(path) { fs::rename } else { fs::hard_link };
    let created = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| put(&aside, path));
    // Whether or not that went well.
    let _ = fs::remove_file(&aside);
    match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && holds(path, text) => Ok(()),
        created => created,
    }
}

/// The example, as a package puts it there, is nobody's configuration yet.
pub fn is_example(path: &Path) -> bool {
    holds(path, include_str!("../../proxy.toml.example"))
}

/// Nothing is read of terminals, pipes, and what has no end.
fn holds(path: &Path, text: &str) -> bool {
    let is_as_long = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == text.len() as u64);
    is_as_long && fs::read(path).is_ok_and(|found| found == text.as_bytes())
}
