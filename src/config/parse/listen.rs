//! Listen addresses, which no two ports may share.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::OneOrMany;
use crate::listener::overlap::{Overlap, find_overlap};

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

    /// Rejects overlapping addresses. `run` could not bind them, and `check` could not distinguish that from a running
    /// gateway.
    pub(super) fn no_overlap(&self, listen: [&[SocketAddr]; 3], spans: [Range<usize>; 3]) -> Result<(), ConfigError> {
        const KEYS: [&str; 3] = ["public.listen", "admin.listen", "metrics.listen"];
        let Some(overlap) = find_overlap(&listen) else {
            return Ok(());
        };
        let Overlap {
            table,
            address,
            other_table,
            other,
        } = overlap;
        let problem = format!(
            "`{address}` and `{other}` of {} cannot both be bound; use different ports",
            KEYS[other_table]
        );
        // The span of a default is empty.
        let written = [table, other_table].into_iter().find(|table| !spans[*table].is_empty());
        let span = spans[written.unwrap_or(table)].clone();
        Err(self.source.wrong(KEYS[table], span, problem))
    }
}
