//! Client for the local Incus over its Unix socket. Access to that socket is equivalent to root.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use edge::tls::certificate::Fingerprint;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use thiserror::Error;

use crate::unix_http;

/// Incus's default port, for an address without a port.
const PORT: u16 = 8443;
/// How long to wait for a response of the local server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The local Incus daemon, identified by its folder.
#[derive(Debug)]
pub(super) struct Incus {
    folder: PathBuf,
}

/// What Incus tells of itself.
#[derive(Debug)]
pub(super) struct Server {
    /// The address of its TCP port, if it listens on one.
    pub(super) address: Option<String>,
    pub(super) is_cluster: bool,
}

impl Server {
    /// Returns the URL at which this machine reaches it.
    pub(super) fn url(&self) -> Option<String> {
        Some(format!("https://{}", local(self.address.as_ref()?)))
    }
}

/// The reason why a request to the local Incus failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LocalError {
    #[error("Incus failed to {what}: {why}")]
    Refused { what: String, why: String },
    #[error("cannot connect to Incus's socket {}: {source}; {}", socket.display(), remedy(source))]
    Socket { socket: PathBuf, source: io::Error },
    #[error("unexpected response from Incus: {0}")]
    Strange(String),
}

impl Incus {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn server(&self) -> Result<Server, LocalError> {
        let server = self.ask(Method::GET, "/1.0", None, "return its server information")?;
        let address = server["config"]["core.https_address"].as_str();
        Ok(Server {
            address: address.filter(|address| !address.is_empty()).map(ToOwned::to_owned),
            is_cluster: server["environment"]["server_clustered"] == true,
        })
    }

    /// Makes Incus listen on a TCP port.
    pub(super) fn listen(&self, address: &str) -> Result<(), LocalError> {
        let config = json!({"config": {"core.https_address": address}});
        self.ask(Method::PATCH, "/1.0", Some(&config), "listen")?;
        Ok(())
    }

    /// Returns whether the certificate is in Incus's trust store.
    pub(super) fn trusts(&self, certificate: &CertificateDer<'_>) -> Result<bool, LocalError> {
        let certificates = self.ask(Method::GET, "/1.0/certificates", None, "list its trust store")?;
        let path = format!("/1.0/certificates/{}", Fingerprint::of(certificate));
        Ok(certificates
            .as_array()
            .is_some_and(|all| all.iter().any(|one| *one == path)))
    }

    /// Adds the certificate to Incus's trust store.
    pub(super) fn trust(&self, certificate: &CertificateDer<'_>) -> Result<(), LocalError> {
        let body = json!({
            "name": "incus-gate",
            "type": "client",
            "restricted": false,
            "certificate": BASE64.encode(certificate),
        });
        self.ask(Method::POST, "/1.0/certificates", Some(&body), "trust the certificate")?;
        Ok(())
    }

    /// Returns the file of Incus's certificate, if it is readable here.
    pub(super) fn pin(&self, is_cluster: bool) -> Option<PathBuf> {
        let file = self.folder.join(if is_cluster { "cluster.crt" } else { "server.crt" });
        fs::metadata(&file).is_ok().then_some(file)
    }

    /// Sends a request and returns the `metadata` of the response.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Value, LocalError> {
        let socket = self.folder.join("unix.socket");
        let strange = |error: &dyn std::error::Error| LocalError::Strange(error.to_string());
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut request = unix_http::request(method, path, Bytes::from(body)).map_err(|error| strange(&error))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let (_, answer) = unix_http::ask(&socket, request, PATIENCE).map_err(|error| match error {
            unix_http::LocalError::Connect(source) => LocalError::Socket {
                socket: socket.clone(),
                source,
            },
            error => strange(&error),
        })?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| strange(&error))?;
        match answer["type"].as_str() {
            Some("error") => Err(LocalError::Refused {
                what: what.to_owned(),
                why: answer["error"].as_str().unwrap_or_default().to_owned(),
            }),
            Some("sync") => Ok(answer["metadata"].clone()),
            _ => Err(LocalError::Strange(format!(
                "the response to {path} has an unknown type"
            ))),
        }
    }
}

/// Returns the address at which this machine reaches Incus, given the one Incus listens on.
fn local(address: &str) -> String {
    let (host, port) = match address.rsplit_once(':') {
        // The last group of an IPv6 address without a port is not a port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.to_owned()),
        _ => (address, PORT.to_string()),
    };
    let bare = host.trim_matches(['[', ']']);
    match bare.parse::<IpAddr>() {
        _ if bare.is_empty() => format!("127.0.0.1:{port}"),
        Ok(ip) if ip.is_unspecified() => format!("127.0.0.1:{port}"),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{bare}:{port}"),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "start Incus, or specify its folder with --incus",
        io::ErrorKind::PermissionDenied => "run this as root",
        _ => "check that Incus is running",
    }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn listen_addresses_become_addresses_to_connect_to() {
        for (listened_on, reached) in [
            ("127.0.0.1:8553", "127.0.0.1:8553"),
            (":8443", "127.0.0.1:8443"),
            ("[::]:8443", "127.0.0.1:8443"),
            ("0.0.0.0", "127.0.0.1:8443"),
            ("[::]", "127.0.0.1:8443"),
            ("::1", "[::1]:8443"),
            ("[::1]:9000", "[::1]:9000"),
            ("192.0.2.7", "192.0.2.7:8443"),
            ("incus.example.org:443", "incus.example.org:443"),
        ] {
            assert_eq!(local(listened_on), reached, "{listened_on}");
        }
    }
}
