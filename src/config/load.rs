//! From a file to a configuration.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Source};
use super::model::{Config, DEFAULT_PATHS};
use super::parse::Loader;
use super::schema;

impl Config {
    /// The file in use: the one named, or the first of [`DEFAULT_PATHS`] that exists.
    pub fn find(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let default = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        named.or_else(default).ok_or(ConfigError::NotFound)
    }

    /// Reads the file and everything it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::of(&Source::read(path)?)
    }

    /// The same for a file that is going to be there.
    pub fn parse_at(path: &Path, text: String) -> Result<Self, ConfigError> {
        Self::of(&Source::new(path, text))
    }

    fn of(source: &Source) -> Result<Self, ConfigError> {
        let file: schema::File = source.parse()?;
        Loader { source }.load(file)
    }

    /// `status.socket` alone, of a file that may be wrong in all else: the gateway runs on with what it had.
    pub fn status_socket(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        let source = Source::read(path)?;
        let file: schema::StatusAlone = source.parse()?;
        Loader { source: &source }.status(&file.status)
    }
}
