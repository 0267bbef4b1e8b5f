//! Converts the parsed file to a configuration: parses all values, reads all files, and reports errors with their line.
//!
//! Each table has a module. `loader` converts the values that several tables have, `listen` listen addresses, and `tls`
//! certificates and their keys.

mod admin;
mod limits;
mod listen;
mod loader;
mod log;
mod public;
mod status;
mod tls;
mod upstream;

use std::path::PathBuf;

use self::loader::Loader;
use super::error::{ConfigError, Source};
use super::model::Config;
use super::schema::{File, StatusTable};

pub(super) fn config(source: &Source, file: File) -> Result<Config, ConfigError> {
    let loader = Loader { source };
    let limits = loader.limits(&file.limits)?;
    let log = loader.log(file.log)?;
    let metrics_listen = file.metrics.as_ref().map(|table| table.listen.span());
    let spans = [
        file.public.listen.span(),
        file.admin.listen.span(),
        metrics_listen.unwrap_or_default(),
    ];
    let public = loader.public(file.public, file.tls.as_ref())?;
    let admin = loader.admin(file.admin, file.tls.as_ref())?;
    let metrics = file.metrics.map(|table| loader.listen("metrics.listen", &table.listen));
    let metrics = metrics.transpose()?.unwrap_or_default();
    loader.no_overlap([&public.listen, &admin.listen, &metrics], spans)?;
    let upstream = loader.upstream(file.upstream, &[&*public.listen, &admin.listen].concat())?;
    let reload_interval = loader.duration("reload.interval", &file.reload.interval)?;
    Ok(Config {
        upstream,
        public,
        admin,
        limits,
        log,
        metrics,
        status_socket: loader.status(&file.status)?,
        reload_interval,
        files: source.files(),
    })
}

pub(super) fn status_socket(source: &Source, table: &StatusTable) -> Result<Option<PathBuf>, ConfigError> {
    Loader { source }.status(table)
}
