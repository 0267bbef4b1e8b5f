//! The `[log]` table.

use std::str::FromStr;

use edge::telemetry::file::LogFile;
use edge::telemetry::log::{LogConfig, LogFormat};
use toml::Spanned;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::LogTable;

impl Loader<'_> {
    pub(super) fn log(&self, table: LogTable) -> Result<LogConfig, ConfigError> {
        let format = match table.format.get_ref().as_str() {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            other => {
                let problem = format!("`{other}` is not a valid value; write \"text\" or \"json\"");
                return Err(self.source.wrong("log.format", table.format.span(), problem));
            }
        };
        let audit_file = match table.audit_file {
            Some(path) => {
                let file = self.source.beside(path.get_ref());
                LogFile::probe(&file)
                    .map_err(|error| self.source.wrong("log.audit_file", path.span(), error.to_string()))?;
                Some(file)
            }
            None => None,
        };
        Ok(LogConfig {
            level: self.log_level(table.level)?,
            format,
            audit_file,
        })
    }

    fn log_level(&self, level: Spanned<String>) -> Result<String, ConfigError> {
        // `EnvFilter` takes an unknown word for a module: it would log everything from that module and nothing else.
        let is_typo = |part: &&str| !part.contains(['=', '[']) && LevelFilter::from_str(part).is_err();
        let typo = level.get_ref().split(',').map(str::trim).find(is_typo);
        let problem = match (typo, EnvFilter::try_new(level.get_ref())) {
            (Some(word), _) => format!("`{word}` is not a log level"),
            (None, Err(error)) => error.to_string(),
            (None, Ok(_)) => return Ok(level.into_inner()),
        };
        let remedy = "write a level (off, error, warn, info, debug, trace) or \"info,incus_gate::access=warn\"";
        Err(self
            .source
            .wrong("log.level", level.span(), format!("{problem}; {remedy}")))
    }
}
