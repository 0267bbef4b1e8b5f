//! The `[store]` table.

use std::path::Path;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::model::StoreConfig;
use crate::config::schema::StoreTable;
use crate::config::units;

/// Minimum of `store.size`: a smaller one would not hold a usual image.
const MINIMUM: u64 = 64 << 20;

impl Loader<'_> {
    pub(super) fn store(&self, table: &StoreTable) -> Result<StoreConfig, ConfigError> {
        let wrong = |problem| self.source.wrong("store.size", table.size.span(), problem);
        let size = units::disk_size(table.size.get_ref()).map_err(wrong)?;
        if size < MINIMUM {
            return Err(wrong("out of range; write a size of at least \"64MiB\"".to_owned()));
        }
        let directory = table.directory.get_ref();
        if directory.as_os_str().is_empty() {
            let problem = "the path is empty; write a folder that belongs to the gateway alone".to_owned();
            return Err(self.source.wrong("store.directory", table.directory.span(), problem));
        }
        let directory = self.source.beside(directory);
        Ok(StoreConfig { directory, size })
    }

    /// Checks that the gateway's own files are outside of the directory, in which the process may write. Called when all of them
    /// are known.
    pub(super) fn store_is_apart(&self, directory: &Path, table: &StoreTable) -> Result<(), ConfigError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (files, own, directory) = (self.source.files(), self.source.path(), real(directory));
        match files
            .paths()
            .chain([&*own])
            .find(|file| real(file).starts_with(&directory))
        {
            None => Ok(()),
            Some(file) => {
                let problem = format!(
                    "it contains {}, and the gateway may write to everything in it; write a folder that belongs to the \
                     store alone",
                    file.display()
                );
                Err(self.source.wrong("store.directory", table.directory.span(), problem))
            }
        }
    }
}
