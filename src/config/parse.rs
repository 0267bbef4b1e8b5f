//! Converts the parsed file to a configuration: parses all values, reads all files, and reports errors with their line.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;
use toml::Spanned;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::error::{ConfigError, Source};
use super::model::{
    AdminClient, AdminConfig, Config, CredentialMatcher, LogConfig, LogFormat, Page, PublicConfig, UpstreamConfig,
    Visibility, is_admin_name,
};
use super::schema::{
    AdminTable, ClientTable, File, LimitsTable, LogTable, OneOrMany, PublicTable, StatusTable, TlsTable, UpstreamTable,
};
use super::units;
use crate::admission::IpAllowList;
use crate::cidr::CidrSet;
use crate::limits::Limits;
use crate::listener::overlap::{Overlap, find_overlap};
use crate::telemetry::file::LogFile;
use crate::tls::certificate::Fingerprint;
use crate::tls::upstream::Pin;
use crate::tls::{CertifiedKey, CertifiedKeyError, read_chain_of_one};

/// Default of `limits.reserved_admin_connections`, limited to half of all connections.
const RESERVED_ADMIN_CONNECTIONS: usize = 64;

pub(super) struct Loader<'a> {
    pub(super) source: &'a Source,
}

impl Loader<'_> {
    pub(super) fn load(&self, file: File) -> Result<Config, ConfigError> {
        let limits = self.limits(&file.limits)?;
        let log = self.log(file.log)?;
        let metrics_listen = file.metrics.as_ref().map(|table| table.listen.span());
        let spans = [
            file.public.listen.span(),
            file.admin.listen.span(),
            metrics_listen.unwrap_or_default(),
        ];
        let public = self.public(file.public, file.tls.as_ref())?;
        let admin = self.admin(file.admin, file.tls.as_ref())?;
        let metrics = file.metrics.map(|table| self.listen("metrics.listen", &table.listen));
        let metrics = metrics.transpose()?.unwrap_or_default();
        self.no_overlap([&public.listen, &admin.listen, &metrics], spans)?;
        let upstream = self.upstream(file.upstream, &[&*public.listen, &admin.listen].concat())?;
        let reload_interval = self.duration("reload.interval", &file.reload.interval)?;
        Ok(Config {
            upstream,
            public,
            admin,
            limits,
            log,
            metrics,
            status_socket: self.status(&file.status)?,
            reload_interval,
            files: self.source.files(),
        })
    }

    fn public(&self, table: PublicTable, shared: Option<&TlsTable>) -> Result<PublicConfig, ConfigError> {
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
            page: table.page.then_some(Page { title }),
            max_age: self.duration("public.max_age", &table.max_age)?,
            stale_if_error: self.duration("public.stale_if_error", &table.stale_if_error)?,
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

    fn admin(&self, table: AdminTable, shared: Option<&TlsTable>) -> Result<AdminConfig, ConfigError> {
        let mut names = HashSet::new();
        let mut fingerprints = HashSet::new();
        let mut clients = Vec::new();
        for (index, client) in table.clients.into_iter().enumerate() {
            let key = format!("admin.clients[{index}]");
            let name = client.name.clone();
            let client = self.client(&key, client)?;
            if !names.insert(client.name.clone()) {
                let problem = format!(
                    "another administrator already has the name `{}`; give each administrator a unique name",
                    client.name
                );
                return Err(self.source.wrong(&format!("{key}.name"), name.span(), problem));
            }
            if !fingerprints.insert(client.known_by.fingerprint()) {
                let problem =
                    "another administrator already has this certificate; give each administrator a unique certificate"
                        .to_owned();
                return Err(self.source.wrong(&key, name.span(), problem));
            }
            clients.push(client);
        }
        Ok(AdminConfig {
            listen: self.listen("admin.listen", &table.listen)?,
            access: self.access("admin", &table.allow, &table.deny)?,
            proxies: self.networks("admin.proxy_protocol_from", &table.proxy_protocol_from)?,
            tls: self.identity("admin.tls", table.tls.as_ref(), shared)?,
            clients,
        })
    }

    fn client(&self, key: &str, table: ClientTable) -> Result<AdminClient, ConfigError> {
        let name = table.name.get_ref();
        if !is_admin_name(name) {
            let problem = format!("{name:?} is not a valid name; use 1 to 64 of the characters a-z A-Z 0-9 - _ . @ +");
            return Err(self.source.wrong(&format!("{key}.name"), table.name.span(), problem));
        }
        let mut others_in_file = 0;
        let known_by = match (table.certificate, table.fingerprint) {
            (Some(path), None) => {
                let chain = read_chain_of_one(&self.source.resolve(path.get_ref()))
                    .map_err(|error| self.source.wrong(&format!("{key}.certificate"), path.span(), error.to_string()))?;
                others_in_file = chain.len() - 1;
                CredentialMatcher::Certificate(chain[0].clone())
            }
            (None, Some(text)) => CredentialMatcher::Fingerprint(Fingerprint::parse(text.get_ref()).ok_or_else(|| {
                let problem = "not a SHA-256 fingerprint; write 64 hexadecimal digits, as in `incus config trust list --format json`";
                self.source.wrong(&format!("{key}.fingerprint"), text.span(), problem.to_owned())
            })?),
            _ => {
                let problem = "needs exactly one of `certificate` and `fingerprint`; add or remove one".to_owned();
                return Err(self.source.wrong(key, table.name.span(), problem));
            }
        };
        Ok(AdminClient {
            name: table.name.into_inner().into(),
            known_by,
            others_in_file,
        })
    }

    fn upstream(&self, table: UpstreamTable, ours: &[SocketAddr]) -> Result<UpstreamConfig, ConfigError> {
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

    fn limits(&self, table: &LimitsTable) -> Result<Limits, ConfigError> {
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

    /// Rejects overlapping addresses. `run` could not bind them, and `check` could not distinguish that from a running
    /// gateway.
    fn no_overlap(&self, listen: [&[SocketAddr]; 3], spans: [Range<usize>; 3]) -> Result<(), ConfigError> {
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

    pub(super) fn status(&self, table: &StatusTable) -> Result<Option<PathBuf>, ConfigError> {
        let path = table.socket.get_ref();
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let socket = self.source.beside(path);
        match std::os::unix::net::SocketAddr::from_pathname(&socket) {
            Ok(_) => Ok(Some(socket)),
            Err(error) => {
                let problem = format!(
                    "{} cannot be a socket ({error}); write a path of less than 108 bytes, or \"\" to disable the socket",
                    socket.display()
                );
                Err(self.source.wrong("status.socket", table.socket.span(), problem))
            }
        }
    }

    fn log(&self, table: LogTable) -> Result<LogConfig, ConfigError> {
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

    fn identity(
        &self,
        key: &str,
        own: Option<&TlsTable>,
        shared: Option<&TlsTable>,
    ) -> Result<CertifiedKey, ConfigError> {
        let (key, table) =
            match (own, shared) {
                (Some(own), _) => (key, own),
                (None, Some(shared)) => ("tls", shared),
                (None, None) => return Err(self.source.missing(
                    "tls",
                    "add a [tls] table with `certificate` and `private_key`: the server certificate that clients see",
                )),
            };
        self.pair(
            (&format!("{key}.certificate"), &table.certificate),
            (&format!("{key}.private_key"), &table.private_key),
        )
    }

    /// Loads a certificate and its key. An error refers to the key that caused it.
    fn pair(
        &self,
        certificate: (&str, &Spanned<PathBuf>),
        private_key: (&str, &Spanned<PathBuf>),
    ) -> Result<CertifiedKey, ConfigError> {
        let [chain_file, key_file] = [certificate, private_key].map(|(_, path)| self.source.resolve(path.get_ref()));
        CertifiedKey::load(&chain_file, &key_file).map_err(|error| {
            let (key, path) = match error {
                CertifiedKeyError::Certificate(_) => certificate,
                CertifiedKeyError::PrivateKey(_) => private_key,
            };
            self.source.wrong(key, path.span(), error.to_string())
        })
    }

    fn listen(&self, key: &str, listen: &Spanned<OneOrMany>) -> Result<Vec<SocketAddr>, ConfigError> {
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

    fn access(
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

    fn networks(&self, key: &str, networks: &Spanned<OneOrMany>) -> Result<CidrSet, ConfigError> {
        CidrSet::parse(networks.get_ref().as_slice())
            .map_err(|problem| self.source.wrong(key, networks.span(), problem))
    }

    fn duration(&self, key: &str, text: &Spanned<String>) -> Result<Duration, ConfigError> {
        units::duration(text.get_ref()).map_err(|problem| self.source.wrong(key, text.span(), problem))
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
