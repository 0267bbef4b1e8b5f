//! The values that several tables have.

use std::time::Duration;

use edge::admission::IpAllowList;
use edge::cidr::CidrSet;
use toml::Spanned;

use crate::config::error::{ConfigError, Source};
use crate::config::schema::OneOrMany;
use crate::config::units;

/// Converts the values of one file. Each module beside this one adds a table.
pub(super) struct Loader<'a> {
    pub(super) source: &'a Source,
}

impl Loader<'_> {
    pub(super) fn access(
        &self,
        port: &str,
        allow: &Spanned<OneOrMany>,
        deny: &Spanned<OneOrMany>,
    ) -> Result<IpAllowList, ConfigError> {
        Ok(IpAllowList {
            allow: self.networks(&format!("{port}.allow"), allow)?,
            deny: self.networks(&format!("{port}.deny"), deny)?,
        })
    }

    pub(super) fn networks(&self, key: &str, networks: &Spanned<OneOrMany>) -> Result<CidrSet, ConfigError> {
        CidrSet::parse(networks.get_ref().as_slice())
            .map_err(|problem| self.source.wrong(key, networks.span(), problem))
    }

    pub(super) fn long_duration(&self, key: &str, text: &Spanned<String>) -> Result<Duration, ConfigError> {
        units::long_duration(text.get_ref()).map_err(|problem| self.source.wrong(key, text.span(), problem))
    }

    pub(super) fn duration(&self, key: &str, text: &Spanned<String>) -> Result<Duration, ConfigError> {
        units::duration(text.get_ref()).map_err(|problem| self.source.wrong(key, text.span(), problem))
    }
}
