//! `proxy.toml` → [`Config`], which cannot be wrong: every file it names is read, every pair matched, every address parsed.
//!
//! `schema` is the file as written, `parse` makes a configuration of it, `error` is every message that a wrong one earns, `watched_files`
//! the certificates and keys that it names, `units` durations and sizes; `write` writes one.

mod error;
mod load;
mod model;
mod parse;
mod schema;
mod units;
mod watched_files;
mod write;

pub use self::error::ConfigError;
pub use self::model::{
    AdminClient, AdminConfig, Config, CredentialMatcher, DEFAULT_PATHS, LogConfig, LogFormat, Page, PublicConfig,
    UpstreamConfig, Visibility, is_admin_name,
};
pub use self::watched_files::Files;
pub use self::write::{create, is_example};

#[cfg(test)]
mod tests;
