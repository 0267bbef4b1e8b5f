//! The floor: the cost of only decrypting and encrypting between two sockets, with the gateway's own TLS.
//!
//! It parses no HTTP and authorizes no client, so it takes part only where that is sufficient.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use edge::tls::upstream::{Pin, client_config};
use edge::tls::{CertifiedKey, server};
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::nginx::listens_in_time;
use super::{Contender, Kind, Running};
use crate::Result;
use crate::process::Process;
use crate::site::Site;
use testing::incus::free_address;

/// The size of a copy, in bytes; the same as in the gateway.
const BUFFER_SIZE: usize = 64 << 10;

/// A copy loop in front of one catalogue.
#[derive(Debug, Args)]
pub(crate) struct Loop {
    listen: SocketAddr,
    upstream: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    client_certificate: PathBuf,
    client_key: PathBuf,
}

/// Starts it in front of the smallest catalogue only, which has the image to download.
pub(super) fn start(site: &Site, cores: &[usize]) -> Result<Contender> {
    let &(images, upstream) = site.catalogues.first().ok_or("a site has a catalogue")?;
    let listen = free_address();
    let log = site.folder().join("floor.log");
    let this = std::env::current_exe()?;
    let arguments = [
        "floor".to_owned(),
        listen.to_string(),
        upstream.to_string(),
        site.server.certificate.display().to_string(),
        site.server.key.display().to_string(),
        site.local.certificate.display().to_string(),
        site.local.key.display().to_string(),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let process = Process::start(cores, &this.to_string_lossy(), &arguments, &log)?;
    if !listens_in_time(listen) {
        return Err(format!("the floor does not start: {}", std::fs::read_to_string(log)?).into());
    }
    Ok(Contender {
        kind: Kind::Floor,
        public: vec![(images, listen)],
        admin: None,
        processes: vec![Running::Other(process)],
        prepared_in: Duration::ZERO,
    })
}

impl Loop {
    /// Copies until the process is ended.
    pub(crate) async fn run(&self) -> Result<()> {
        let shown = CertifiedKey::load(&self.certificate, &self.key)?;
        let mut shown = server::public_config(&shown)?;
        shown.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(shown));
        let own = CertifiedKey::load(&self.client_certificate, &self.client_key)?;
        let pin = Pin::none_on_loopback("localhost").ok_or("localhost is this machine")?;
        let connector = TlsConnector::from(Arc::new(client_config(&own, Arc::new(pin))));
        let listener = TcpListener::bind(self.listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            let (acceptor, connector, upstream) = (acceptor.clone(), connector.clone(), self.upstream);
            tokio::task::spawn_local(async move {
                if let Err(error) = copy(client, &acceptor, upstream, &connector).await {
                    eprintln!("{error}");
                }
            });
        }
    }
}

async fn copy(client: TcpStream, acceptor: &TlsAcceptor, upstream: SocketAddr, connector: &TlsConnector) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    let mut upstream = connector.connect(ServerName::try_from("localhost")?, upstream).await?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_SIZE, BUFFER_SIZE).await?;
    Ok(())
}
