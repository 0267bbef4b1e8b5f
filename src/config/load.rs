//! From a file to a configuration.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Source};
use super::model::{Config, DEFAULT_PATHS};
use super::{parse, schema};

impl Config {
    /// Returns the path of the configuration: `named`, or the first of [`DEFAULT_PATHS`] that exists.
    ///
    /// # Errors
    ///
    /// Fails if none of them exists.
    pub fn find(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let default = || DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        named.or_else(default).ok_or(ConfigError::NotFound)
    }

    /// Reads the configuration and all files that it names.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or on the first invalid value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::of(&Source::read(path)?)
    }

    /// Parses a configuration that will be written to `path`.
    ///
    /// # Errors
    ///
    /// Fails if a file that it names cannot be read, or on the first invalid value.
    pub fn parse_at(path: &Path, text: String) -> Result<Self, ConfigError> {
        Self::of(&Source::new(path, text))
    }

    fn of(source: &Source) -> Result<Self, ConfigError> {
        let file: schema::File = source.parse()?;
        parse::config(source, file)
    }

    /// Returns `status.socket`, even if other parts of the file are invalid: a running gateway keeps its old
    /// configuration then.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if it is not TOML, or if this value is invalid.
    pub fn status_socket(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
        let source = Source::read(path)?;
        let file: schema::StatusAlone = source.parse()?;
        parse::status_socket(&source, &file.status)
    }
}
