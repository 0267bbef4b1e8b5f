//! Parses `proxy.toml` into a [`Config`]. A `Config` is fully validated: all files are read, all keys match their
//! certificates, and all addresses are parsed.
//!
//! `schema` defines the file format, `parse` converts it to a configuration, and `error` contains the error messages.
//! `watched_files` tracks the certificates and keys, `units` parses durations and sizes, and `write` creates a new
//! file.

pub mod default_listen;
mod error;
mod listeners;
mod load;
mod model;
mod parse;
mod schema;
mod units;
mod watched_files;
mod write;

pub use self::error::ConfigError;
pub use self::listeners::ConfiguredListener;
pub use self::model::{
    AdminClient, AdminConfig, Config, CredentialMatcher, DEFAULT_PATHS, Page, PublicConfig, StoreConfig, Table,
    Visibility, is_admin_name,
};
pub use self::watched_files::Files;
pub use self::write::{create, is_example};

#[cfg(test)]
mod tests;
