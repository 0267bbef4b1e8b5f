//! The `[status]` table.

use std::path::PathBuf;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::StatusTable;

impl Loader<'_> {
    pub(super) fn status(&self, table: &StatusTable) -> Result<Option<PathBuf>, ConfigError> {
        let path = table.socket.get_ref();
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let socket = self.source.beside(path);
        match std::os::unix::net::SocketAddr::from_pathname(&socket) {
            Ok(_) => Ok(Some(socket)),
            Err(error) => {
                let problem = format!(
                    "{} cannot be a socket ({error}); write a path of less than 108 bytes, or \"\" to disable the socket",
                    socket.display()
                );
                Err(self.source.wrong("status.socket", table.socket.span(), problem))
            }
        }
    }
}
