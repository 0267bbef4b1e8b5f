//! Listen addresses, and the listeners of the tables that have them.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use edge::listener::overlap::{Overlap, find_overlap};
use toml::Spanned;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::listeners::{ConfiguredListener, Disagreement, ListeningTable, group};
use crate::config::schema::OneOrMany;

impl Loader<'_> {
    pub(super) fn listen(&self, key: &str, listen: &Spanned<OneOrMany>) -> Result<Vec<SocketAddr>, ConfigError> {
        let addresses = listen.get_ref().as_slice();
        let wrong = |problem: String| self.source.wrong(key, listen.span(), problem);
        if addresses.is_empty() {
            return Err(wrong(
                "the list is empty; write at least one address, such as \"[::]:8554\"".to_owned(),
            ));
        }
        addresses
            .iter()
            .map(|text| {
                let address: SocketAddr = text.parse().map_err(|_| {
                    let remedy = match key {
                        // Metrics have no authentication, so suggest the loopback address.
                        "metrics.listen" => "write an address such as \"127.0.0.1:9555\"",
                        _ => "write \"[::]:8554\" for every address of this machine, or an address such as \"192.0.2.1:8554\"",
                    };
                    wrong(format!("`{text}` is not an address with a port; {remedy}"))
                })?;
                // An IPv4-mapped IPv6 address is bound as IPv4.
                Ok(match address.ip().to_canonical() {
                    IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
                    IpAddr::V6(_) => address,
                })
            })
            .collect()
    }

    /// Returns the listeners of these tables. `span` finds the `listen` of one.
    pub(super) fn listeners<T: Copy>(
        &self,
        tables: &[ListeningTable<'_, T>],
        span: impl Fn(T) -> Range<usize>,
    ) -> Result<Vec<ConfiguredListener<T>>, ConfigError> {
        group(tables).map_err(|Disagreement { table, other_table, key }| {
            let [table, other] = [tables[table], tables[other_table]];
            let problem = format!(
                "{}.{key} and {}.{key} differ, but the tables share a port; set them to the same value, or use different ports",
                table.name, other.name
            );
            self.source.wrong(&format!("{}.listen", table.name), span(table.table), problem)
        })
    }

    /// Rejects overlapping addresses of different listeners, each given by its table, its addresses and where they are in the
    /// file. `run` could not bind them, and `check` could not distinguish that from a running gateway.
    pub(super) fn no_overlap(&self, listeners: &[(&str, &[SocketAddr], Range<usize>)]) -> Result<(), ConfigError> {
        let addresses: Vec<_> = listeners.iter().map(|(_, addresses, _)| *addresses).collect();
        let Some(overlap) = find_overlap(&addresses) else {
            return Ok(());
        };
        let Overlap {
            table,
            address,
            other_table,
            other,
        } = overlap;
        let [(name, _, span), (other_name, _, other_span)] = [table, other_table].map(|index| &listeners[index]);
        let problem =
            format!("`{address}` and `{other}` of {other_name}.listen cannot both be bound; use different ports");
        // The span of a default is empty.
        let written = [span, other_span].into_iter().find(|span| !span.is_empty());
        Err(self
            .source
            .wrong(&format!("{name}.listen"), written.unwrap_or(span).clone(), problem))
    }
}
