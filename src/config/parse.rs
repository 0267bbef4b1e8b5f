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
mod store;
mod tls;
mod upstream;

use std::path::PathBuf;

use edge::listener_id::Policy;

use self::loader::Loader;
use super::error::{ConfigError, Source};
use super::listeners::ListeningTable;
use super::model::{Config, Table};
use super::schema::{File, StatusTable};

pub(super) fn config(source: &Source, file: File) -> Result<Config, ConfigError> {
    let loader = Loader { source };
    let limits = loader.limits(&file.limits)?;
    let log = loader.log(file.log)?;
    let spans = [file.public.listen.span(), file.admin.listen.span()];
    let span = |table| match table {
        Table::Public => spans[0].clone(),
        Table::Admin => spans[1].clone(),
    };
    let store = file.store.as_ref().map(|table| loader.store(table)).transpose()?;
    if store.is_none() && *file.public.simplestreams.get_ref() {
        let problem = "it needs the store, which hashes the images' files; add a table [store]".to_owned();
        return Err(source.wrong("public.simplestreams", file.public.simplestreams.span(), problem));
    }
    let public = loader.public(file.public, file.tls.as_ref())?;
    let admin = loader.admin(file.admin, file.tls.as_ref())?;
    let (metrics, metrics_span) = match &file.metrics {
        Some(table) => (loader.listen("metrics.listen", &table.listen)?, table.listen.span()),
        None => (Vec::new(), 0..0),
    };
    let tables = [
        ListeningTable {
            table: Table::Public,
            name: "public",
            policy: Policy::Open,
            listen: &public.listen,
            tls: &public.tls,
            access: &public.access,
            proxies: &public.proxies,
        },
        ListeningTable {
            table: Table::Admin,
            name: "admin",
            policy: Policy::Authenticated,
            listen: &admin.listen,
            tls: &admin.tls,
            access: &admin.access,
            proxies: &admin.proxies,
        },
    ];
    let listeners = loader.listeners(&tables, span)?;
    let mut bound: Vec<_> = listeners
        .iter()
        .map(|listener| (listener.id.name(), &*listener.addresses, span(listener.first)))
        .collect();
    bound.push(("metrics", &metrics, metrics_span));
    loader.no_overlap(&bound)?;
    let upstream = loader.upstream(file.upstream, &[&*public.listen, &admin.listen].concat())?;
    if let (Some(store), Some(table)) = (&store, &file.store) {
        loader.store_is_apart(&store.directory, table)?;
    }
    let reload_interval = loader.duration("reload.interval", &file.reload.interval)?;
    Ok(Config {
        upstream,
        public,
        admin,
        store,
        listeners,
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
