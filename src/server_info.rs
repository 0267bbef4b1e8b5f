//! Incus's information about itself and about the gateway's trust status.

use std::time::Duration;

use edge::upstream::{Error, Upstream};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;

/// Maximum size of Incus's `/1.0`, in bytes. It usually has a few kilobytes.
pub const MAX_SERVER_INFO: usize = 1 << 20;

/// The part of Incus's `/1.0` that the gateway's operator needs. Incus returns the optional fields only to trusted clients.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Whether Incus trusts `upstream.client_certificate`.
    pub is_trusted: bool,
    /// For example `6.0.4`.
    pub version: Option<String>,
    /// `core.https_address`, or empty.
    pub core_address: String,
    /// `cluster.https_address`, or empty.
    pub cluster_address: String,
}

/// Why no information is available.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServerInfoError {
    #[error("the server is not Incus ({0})")]
    NotIncus(#[from] serde_json::Error),
    #[error(transparent)]
    Upstream(#[from] Error),
}

impl ServerInfo {
    /// Requests the information, with a timeout of `time_limit`.
    ///
    /// # Errors
    /// Fails if the request fails or times out, or if the response is not from Incus.
    pub async fn fetch(upstream: &Upstream, time_limit: Duration) -> Result<Self, ServerInfoError> {
        let body = timeout(time_limit, upstream.fetch("/1.0", MAX_SERVER_INFO)).await;
        let body = body.unwrap_or(Err(Error::Timeout(time_limit)))?;
        let ServerDocument { metadata } = serde_json::from_slice(&body)?;
        Ok(Self {
            is_trusted: metadata.auth == "trusted",
            version: metadata.environment.server_version,
            core_address: metadata.config.core,
            cluster_address: metadata.config.cluster,
        })
    }
}

#[derive(Deserialize)]
struct ServerDocument {
    metadata: Server,
}

#[derive(Deserialize)]
struct Server {
    auth: String,
    #[serde(default)]
    config: Settings,
    #[serde(default)]
    environment: Environment,
}

#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default, rename = "core.https_address")]
    core: String,
    #[serde(default, rename = "cluster.https_address")]
    cluster: String,
}

#[derive(Default, Deserialize)]
struct Environment {
    server_version: Option<String>,
}
