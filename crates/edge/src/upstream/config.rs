//! Where the server is, and how it is authenticated.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::tls::CertifiedKey;
use crate::tls::upstream::Pin;

/// `[upstream]`
#[derive(Debug)]
pub struct UpstreamConfig {
    /// URL as written in the file, for messages.
    pub url: String,
    /// Host and port as written in the file.
    pub authority: String,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Server name for TLS. It is not verified: Incus's certificate is pinned instead.
    pub server_name: ServerName<'static>,
    /// Client certificate that Incus trusts.
    pub identity: CertifiedKey,
    /// Pinned certificate of Incus. A loopback connection may have none.
    pub pin: Arc<Pin>,
    /// Whether to send each client's address to Incus with the PROXY protocol.
    pub proxy_protocol: bool,
}
