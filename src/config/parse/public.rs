//! The `[public]` table.

use toml::Spanned;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::model::{Page, PublicConfig, Visibility};
use crate::config::schema::{PublicTable, TlsTable};

impl Loader<'_> {
    pub(super) fn public(&self, table: PublicTable, shared: Option<&TlsTable>) -> Result<PublicConfig, ConfigError> {
        let images = match table.images.get_ref().as_str() {
            "all" => Visibility::All,
            "public" => Visibility::Public,
            other => {
                let problem = format!("`{other}` is not a valid value; write \"public\" or \"all\"");
                return Err(self.source.wrong("public.images", table.images.span(), problem));
            }
        };
        let title = table.title.map(|title| self.title(title)).transpose()?;
        Ok(PublicConfig {
            listen: self.listen("public.listen", &table.listen)?,
            access: self.access("public", &table.allow, &table.deny)?,
            proxies: self.networks("public.proxy_protocol_from", &table.proxy_protocol_from)?,
            tls: self.identity("public.tls", table.tls.as_ref(), shared)?,
            images,
            page: table.page.then_some(Page {
                title,
                simplestreams: *table.simplestreams.get_ref(),
            }),
            max_age: self.duration("public.max_age", &table.max_age)?,
            stale_if_error: self.duration("public.stale_if_error", &table.stale_if_error)?,
            simplestreams: *table.simplestreams.get_ref(),
            file_max_age: self.long_duration("public.file_max_age", &table.file_max_age)?,
        })
    }

    fn title(&self, title: Spanned<String>) -> Result<String, ConfigError> {
        let text = title.get_ref();
        match text.trim().is_empty() || text.chars().count() > 100 || text.contains(char::is_control) {
            true => {
                let problem = "invalid title; write 1 to 100 characters in one line".to_owned();
                Err(self.source.wrong("public.title", title.span(), problem))
            }
            false => Ok(title.into_inner()),
        }
    }
}
