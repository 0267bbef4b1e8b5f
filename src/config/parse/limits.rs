//! The `[limits]` table.

use std::fmt::Display;
use std::ops::RangeInclusive;

use edge::limits::Limits;
use toml::Spanned;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::LimitsTable;
use crate::config::units;

/// Default of `limits.reserved_admin_connections`, limited to half of all connections.
const RESERVED_ADMIN_CONNECTIONS: usize = 64;

impl Loader<'_> {
    pub(super) fn limits(&self, table: &LimitsTable) -> Result<Limits, ConfigError> {
        let max_header_size = units::size(table.max_header_size.get_ref())
            .and_then(|size| {
                // hyper requires the lower bound. The upper one limits the memory of many concurrent requests.
                (8 << 10..=1 << 20)
                    .contains(&size)
                    .then_some(size)
                    .ok_or_else(|| "out of range; write a size from \"8KiB\" to \"1MiB\"".to_owned())
            })
            .map_err(|problem| {
                self.source
                    .wrong("limits.max_header_size", table.max_header_size.span(), problem)
            })?;
        let max_connections = self.number("limits.max_connections", &table.max_connections, 4..=1_000_000)?;
        let half = max_connections / 2;
        let reserved_admin_connections = match &table.reserved_admin_connections {
            Some(number) => self.number("limits.reserved_admin_connections", number, 2..=half)?,
            None => half.min(RESERVED_ADMIN_CONNECTIONS),
        };
        Ok(Limits {
            handshake_timeout: self.duration("limits.handshake_timeout", &table.handshake_timeout)?,
            header_timeout: self.duration("limits.header_timeout", &table.header_timeout)?,
            max_header_size,
            idle_timeout: self.duration("limits.idle_timeout", &table.idle_timeout)?,
            max_connections,
            reserved_admin_connections,
            max_connections_per_address: self.number(
                "limits.max_connections_per_address",
                &table.max_connections_per_address,
                1..=1_000_000,
            )?,
            requests_per_second: self.number(
                "limits.requests_per_second",
                &table.requests_per_second,
                1..=1_000_000,
            )?,
            min_send_rate: self.min_send_rate(&table.min_send_rate)?,
            send_grace: self.duration("limits.send_grace", &table.send_grace)?,
            drain_timeout: self.duration("limits.drain_timeout", &table.drain_timeout)?,
        })
    }

    fn min_send_rate(&self, table: &Spanned<String>) -> Result<u32, ConfigError> {
        units::size(table.get_ref())
            .and_then(|size| match u32::try_from(size) {
                Ok(rate) if (1..=1 << 20).contains(&rate) => Ok(rate),
                _ => Err("out of range; write a size per second from \"1B\" to \"1MiB\"".to_owned()),
            })
            .map_err(|problem| self.source.wrong("limits.min_send_rate", table.span(), problem))
    }

    fn number<T>(&self, key: &str, number: &Spanned<u64>, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: Display + PartialOrd + TryFrom<u64>,
    {
        let within = T::try_from(*number.get_ref())
            .ok()
            .filter(|number| range.contains(number));
        within.ok_or_else(|| {
            let problem = format!(
                "{} is out of range; write a number from {} to {}",
                number.get_ref(),
                range.start(),
                range.end()
            );
            self.source.wrong(key, number.span(), problem)
        })
    }
}
