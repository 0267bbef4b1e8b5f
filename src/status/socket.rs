//! The Unix socket of the running gateway. It is bound before the process enters its sandbox; only root and the
//! gateway's own user may access it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use thiserror::Error;

use crate::unix_http::{self, LocalError};

/// Timeout for a gateway that listens there. A draining gateway responds immediately.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
enum SocketError {
    #[error("another gateway uses this socket; set another status.socket for this one")]
    Answered,
    #[error(
        "{0}; give the gateway's user write permission in its folder, or set another status.socket (\"\" disables it)"
    )]
    Io(#[from] io::Error),
    #[error("the path exists and is not a socket; remove it, or set another status.socket")]
    NoSocket,
}

/// Binds the socket. On failure, logs a warning; the gateway then runs without a status socket.
pub fn open(socket: Option<&Path>) -> Option<UnixListener> {
    let socket = socket?;
    match bind(socket) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(
                "status.socket: cannot listen on {}, so `incus-gate status` cannot connect to this gateway: {error}",
                socket.display()
            );
            None
        }
    }
}

fn bind(socket: &Path) -> Result<UnixListener, SocketError> {
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket),
        Ok(_) if is_in_use(socket)? => return Err(SocketError::Answered),
        _ => {}
    }
    let folder = socket.parent().unwrap_or_else(|| Path::new("."));
    if !folder.exists() {
        DirBuilder::new().mode(0o750).create(folder)?;
    }
    // Bind under a temporary name and rename it, so that the socket gets its permissions before clients see it, and
    // replaces the old one atomically.
    let new = new_name(socket);
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let placed = fs::set_permissions(&new, Permissions::from_mode(0o600)).and_then(|()| fs::rename(&new, socket));
    if let Err(error) = placed {
        let _ = fs::remove_file(&new);
        return Err(error.into());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn new_name(socket: &Path) -> PathBuf {
    // Keep the name short: socket paths have a maximum length.
    socket.with_file_name(format!(".{}", std::process::id()))
}

/// Whether another gateway uses the socket. After a crash it refuses connections; a draining gateway gives up its
/// socket.
fn is_in_use(socket: &Path) -> Result<bool, SocketError> {
    let Ok(request) = unix_http::request(Method::GET, "/readyz", Bytes::new()) else {
        return Ok(true);
    };
    match unix_http::ask(socket, request, PATIENCE) {
        Ok((_, body)) => Ok(body.as_ref() != b"draining\n"),
        Err(LocalError::Connect(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::PermissionDenied => Err(error.into()),
            _ => Ok(true),
        },
        Err(_) => Ok(true),
    }
}
