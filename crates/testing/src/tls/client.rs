//! The client's settings: its certificate, its session store, and its trust in every server.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, NamedGroup, SignatureScheme, SupportedProtocolVersion};

use super::super::certificates::Certificate;
use super::super::network;
use super::trust::AcceptAnyCertificate;
use super::{End, Raw};

/// The settings of a client. All connections of a client share its session store.
#[derive(Clone, Debug)]
pub struct TlsClient {
    version: &'static SupportedProtocolVersion,
    pub(super) config: ClientConfig,
    presented: Arc<Presented>,
    sessions: Arc<Sessions>,
}

impl TlsClient {
    /// Creates a client with TLS 1.3 only, no certificate and no ALPN, like Incus's own clients.
    pub fn tls13() -> Self {
        Self::with_version(&TLS13)
    }

    /// Like [`Self::tls13`], with this certificate.
    pub fn of(certificate: &Certificate) -> Self {
        Self::tls13().presenting(certificate)
    }

    /// Creates a client with TLS 1.2 only, no certificate and no ALPN.
    pub fn tls12() -> Self {
        Self::with_version(&TLS12)
    }

    /// Creates another client with the same version, without a certificate or sessions.
    pub fn without_certificate(&self) -> Self {
        Self::with_version(self.version)
    }

    /// Presents this certificate.
    pub fn presenting(self, certificate: &Certificate) -> Self {
        self.presenting_chain(&[certificate], certificate)
    }

    /// Presents this chain, the leaf first, and signs with the key of `signer`, which need not match the leaf.
    pub fn presenting_chain(self, chain: &[&Certificate], signer: &Certificate) -> Self {
        let chain = chain.iter().map(|certificate| certificate.der()).collect();
        let key = PrivateKeyDer::from_pem_file(&signer.key).expect("a key's PEM file");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("rustls supports this key type");
        self.present(CertifiedKey::new(chain, key));
        self
    }

    /// Presents this certificate from now on. The key need not match. Existing sessions are kept.
    pub fn present(&self, identity: CertifiedKey) {
        *lock(&self.presented.identity) = Some(Arc::new(identity));
    }

    /// Presents no certificate from now on. Existing sessions are kept.
    pub fn stop_presenting(&self) {
        *lock(&self.presented.identity) = None;
    }

    /// Offers these protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Offers these key exchange groups in this order, with a key share only for `shared`. Existing sessions are discarded.
    pub fn key_exchange(
        self,
        groups: &[&'static dyn SupportedKxGroup],
        shared: NamedGroup,
        server: SocketAddr,
    ) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = groups.to_vec();
        let client = Self::with_provider(self.version, Arc::new(provider));
        client
            .sessions
            .memory
            .set_kx_hint(ServerName::from(server.ip()), shared);
        client
    }

    /// Enables early data (0-RTT), which is sent if the server permits it.
    pub fn with_early_data(mut self) -> Self {
        self.config.enable_early_data = true;
        self
    }

    /// Returns the number of session tickets that servers have sent.
    pub fn sessions_offered(&self) -> usize {
        *lock(&self.sessions.offered)
    }

    /// Returns the number of issuers in the last certificate request; `None` if there was none.
    pub fn hints(&self) -> Option<usize> {
        *lock(&self.presented.hints)
    }

    /// Connects and completes the handshake. In TLS 1.3, the server verifies the client certificate afterwards, so its alert is
    /// the result of the first read.
    pub fn connect(&self, address: SocketAddr) -> Result<Raw, End> {
        Raw::open(self, address)
    }

    /// Like [`Self::connect`], from one of the addresses of [`network::own`].
    pub fn connect_from(&self, from: &str, address: SocketAddr) -> Result<Raw, End> {
        Raw::over(self, network::connect(from, address), address)
    }

    /// Like [`Self::connect`], behind a proxy that announces this client address.
    pub fn connect_announced(&self, client: IpAddr, address: SocketAddr) -> Result<Raw, End> {
        Raw::over(self, network::announce(client, address)?, address)
    }

    /// Returns the bytes of a ClientHello.
    pub fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(self.config.clone()), name);
        let mut hello = Vec::new();
        let written = tls.expect("a valid client configuration").write_tls(&mut hello);
        written.expect("writing to a vector succeeds");
        hello
    }

    fn with_version(version: &'static SupportedProtocolVersion) -> Self {
        Self::with_provider(version, Arc::new(aws_lc_rs::default_provider()))
    }

    fn with_provider(version: &'static SupportedProtocolVersion, provider: Arc<CryptoProvider>) -> Self {
        let presented = Arc::new(Presented::default());
        let sessions = Arc::new(Sessions::default());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("the provider has this version's cipher suites")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate::with_key()))
            .with_client_cert_resolver(Arc::clone(&presented) as Arc<dyn ResolvesClientCert>);
        config.resumption = Resumption::store(Arc::clone(&sessions) as Arc<dyn ClientSessionStore>);
        Self {
            version,
            config,
            presented,
            sessions,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while holding the lock")
}

/// The certificate that the client presents on request.
#[derive(Debug, Default)]
struct Presented {
    identity: Mutex<Option<Arc<CertifiedKey>>>,
    hints: Mutex<Option<usize>>,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *lock(&self.hints) = Some(hints.len());
        lock(&self.identity).clone()
    }

    fn has_certs(&self) -> bool {
        lock(&self.identity).is_some()
    }
}

/// A session store that counts the sessions.
#[derive(Debug)]
struct Sessions {
    memory: ClientSessionMemoryCache,
    offered: Mutex<usize>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            memory: ClientSessionMemoryCache::new(64),
            offered: Mutex::default(),
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.memory.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.memory.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        *lock(&self.offered) += 1;
        self.memory.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.memory.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.memory.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        *lock(&self.offered) += 1;
        self.memory.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.memory.take_tls13_ticket(server)
    }
}
