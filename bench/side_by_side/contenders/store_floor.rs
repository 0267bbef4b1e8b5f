//! The floor of a store: the cost of only reading a file from the page cache, encrypting it and sending it, with the gateway's own
//! TLS. It parses no more of a request than its end.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use edge::tls::{CertifiedKey, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::nginx::listens_in_time;
use super::{Contender, Kind, Running};
use crate::Result;
use crate::process::Process;
use crate::site::Site;
use testing::incus::free_address;

/// The size of a read, in bytes; the same as in the gateway.
const PIECE: usize = 64 << 10;

/// A server of one file.
#[derive(Debug, Args)]
pub(crate) struct FileServer {
    listen: SocketAddr,
    file: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Starts it with the image to download, on the disk.
pub(super) fn start(site: &Site, cores: &[usize]) -> Result<Contender> {
    let &(images, _) = site.catalogues.first().ok_or("a site has a catalogue")?;
    let listen = free_address();
    let log = site.folder().join("store-floor.log");
    let file = site.disk().join("image");
    std::fs::copy(site.folder().join("exports").join(&site.fingerprint), &file)?;
    let arguments = [
        "store-floor".to_owned(),
        listen.to_string(),
        file.display().to_string(),
        site.server.certificate.display().to_string(),
        site.server.key.display().to_string(),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let this = std::env::current_exe()?;
    let process = Process::start(cores, &this.to_string_lossy(), &arguments, &log)?;
    if !listens_in_time(listen) {
        return Err(format!("the floor of a store does not start: {}", std::fs::read_to_string(log)?).into());
    }
    Ok(Contender {
        kind: Kind::StoreFloor,
        public: vec![(images, listen)],
        admin: None,
        processes: vec![Running::Other(process)],
        prepared_in: Duration::ZERO,
    })
}

impl FileServer {
    /// Serves until the process is ended.
    pub(crate) async fn run(&self) -> Result<()> {
        let shown = CertifiedKey::load(&self.certificate, &self.key)?;
        let mut shown = server::public_config(&shown)?;
        shown.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(shown));
        let file = Arc::new(File::open(&self.file)?);
        let listener = TcpListener::bind(self.listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            let (acceptor, file) = (acceptor.clone(), Arc::clone(&file));
            tokio::task::spawn_local(async move {
                if let Err(error) = serve(client, &acceptor, &file).await {
                    eprintln!("{error}");
                }
            });
        }
    }
}

async fn serve(client: TcpStream, acceptor: &TlsAcceptor, file: &File) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        // Requests have no body, and are not sent before the response to the last one.
        while !head.ends_with(b"\r\n\r\n") {
            if client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        head.clear();
        let fields = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(fields.as_bytes()).await?;
        let mut offset = 0;
        while offset < length {
            let read = file.read_at(&mut piece, offset)?;
            client.write_all(&piece[..read]).await?;
            offset += read as u64;
        }
        client.flush().await?;
    }
}
