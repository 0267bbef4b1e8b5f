//! The reasons why an import fails.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The reason why Nginx's configuration cannot be translated.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file is not valid Nginx configuration.
    #[error("{position}: {problem}; `nginx -t` shows whether Nginx accepts it")]
    Malformed {
        /// `file:line`
        position: String,
        /// The problem.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}{}: {source}; pass the nginx.conf that Nginx itself reads, as root", path.display(), included_at.as_ref().map(|position| format!(", which {position} includes (names are relative to the folder of nginx.conf)")).unwrap_or_default())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The position of the `include` that names the file.
        included_at: Option<String>,
        /// Error of the operating system.
        source: io::Error,
    },
}
