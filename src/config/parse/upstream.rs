//! The `[upstream]` table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use edge::tls::upstream::Pin;
use edge::upstream::UpstreamConfig;
use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::schema::UpstreamTable;

impl Loader<'_> {
    pub(super) fn upstream(&self, table: UpstreamTable, ours: &[SocketAddr]) -> Result<UpstreamConfig, ConfigError> {
        let wrong_url = |problem: &str| {
            let problem = format!("{problem}; write a URL such as \"https://127.0.0.1:8553\"");
            self.source.wrong("upstream.url", table.url.span(), problem)
        };
        let text = table.url.get_ref().as_str();
        let url: Uri = text
            .parse()
            .map_err(|error| wrong_url(&format!("`{text}` is not a valid URL ({error})")))?;
        if url.scheme() != Some(&Scheme::HTTPS) {
            return Err(wrong_url("the URL must begin with https://"));
        }
        // `Uri` drops fragments.
        if !matches!(url.path(), "" | "/") || url.query().is_some() || text.contains('#') {
            return Err(wrong_url("the URL must end after the port"));
        }
        let authority = url.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(wrong_url("the URL must not contain a user name"));
        }
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let server_name = ServerName::try_from(host.clone())
            .map_err(|_| wrong_url(&format!("`{host}` is not a valid host name or IP address")))?;
        let port = url
            .port_u16()
            .ok_or_else(|| wrong_url("the URL needs a port from 1 to 65535"))?;
        if ours.iter().any(|address| leads_to(&host, port, *address)) {
            return Err(wrong_url(&format!(
                "port {port} is a port of this gateway, not of Incus"
            )));
        }

        let identity = self.pair(
            ("upstream.client_certificate", &table.client_certificate),
            ("upstream.client_private_key", &table.client_private_key),
        )?;
        let pin = match table.server_certificate {
            Some(path) => Pin::file(self.source.resolve(path.get_ref())).map_err(|error| {
                self.source.wrong("upstream.server_certificate", path.span(), error.to_string())
            })?,
            None => Pin::none_on_loopback(&host).ok_or_else(|| {
                let problem = format!(
                    "`{host}` is not a loopback address, so Incus must be authenticated by its certificate; set upstream.server_certificate to a copy of Incus's server.crt (in a cluster: cluster.crt)"
                );
                self.source.wrong("upstream.server_certificate", table.url.span(), problem)
            })?,
        };
        Ok(UpstreamConfig {
            url: text.to_owned(),
            authority: authority.to_owned(),
            host,
            port,
            server_name,
            identity,
            pin: Arc::new(pin),
            proxy_protocol: table.proxy_protocol,
        })
    }
}

/// Whether a connection to this host and port reaches this listening address.
fn leads_to(host: &str, port: u16, listen: SocketAddr) -> bool {
    let listens_at = |ip: IpAddr| ip == listen.ip() || (ip.is_loopback() && listen.ip().is_unspecified());
    let ip = match host {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse(),
    };
    port == listen.port() && ip.is_ok_and(listens_at)
}
