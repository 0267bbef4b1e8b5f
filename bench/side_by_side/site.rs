//! The upstream of all contenders, and the certificates.
//!
//! It is a fast TLS server that responds like Incus ([`files`]). Incus itself would be the bottleneck for small responses and
//! for uploads, which it writes to disk, while the benchmark measures the proxies. Where Incus is fast enough, the work is
//! repeated in front of a real one.

pub(crate) mod files;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::Result;
use crate::process::Process;
use testing::certificates::{Certificate, Certificates};
use testing::images::{Images, Kind};
use testing::incus::Incus;

/// The size of the real Incus's image, which is slightly larger.
const MEBIBYTES: u64 = 16;

#[derive(Debug)]
pub(crate) struct Site {
    /// Dropped before the folder.
    upstream: Upstream,
    /// An address for each number of images, smallest first.
    pub(crate) catalogues: Vec<(usize, SocketAddr)>,
    /// SHA-256 of the image to download.
    pub(crate) fingerprint: String,
    /// The server certificate of the contenders.
    pub(crate) server: Certificate,
    /// The server certificate of the upstream.
    pub(crate) pin: PathBuf,
    /// The contenders' client certificate for the upstream.
    pub(crate) local: Certificate,
    /// The administrator's certificate.
    pub(crate) ops: Certificate,
    /// The folder of these certificates.
    _certificates: Certificates,
    folder: TempDir,
    /// On a disk.
    disk: TempDir,
}

/// The properties of a started upstream.
struct Started {
    upstream: Upstream,
    catalogues: Vec<(usize, SocketAddr)>,
    fingerprint: String,
    pin: PathBuf,
}

#[derive(Debug)]
enum Upstream {
    Files(Process),
    Incus(Incus),
}

impl Site {
    /// Starts the fast server, with a catalogue of each of these lengths.
    pub(crate) fn of_files(cores: &[usize], catalogues: &[usize]) -> Result<Self> {
        Self::start(|folder, server, _| {
            let files = files::start(folder, server, cores, catalogues)?;
            Ok(Started {
                upstream: Upstream::Files(files.process),
                catalogues: files.catalogues,
                fingerprint: files.fingerprint,
                pin: server.certificate.clone(),
            })
        })
    }

    /// Starts a real Incus with one image, on the cores of this process.
    pub(crate) fn of_incus() -> Result<Self> {
        Self::start(|_, _, local| {
            let incus = Incus::start(&[local]);
            let image = Images::new().random(Kind::Unified, "measured", MEBIBYTES);
            image.import(&incus, &["--public"]);
            Ok(Started {
                catalogues: vec![(1, incus.address())],
                fingerprint: image.fingerprint,
                pin: incus.server_certificate(),
                upstream: Upstream::Incus(incus),
            })
        })
    }

    /// Starts a site. `upstream` gets the folder, the server certificate, and the contenders' client certificate.
    fn start(upstream: impl FnOnce(&Path, &Certificate, &Certificate) -> Result<Started>) -> Result<Self> {
        // In memory, so that no disk I/O interferes.
        let folder = match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm")?,
            false => tempfile::tempdir()?,
        };
        let certificates = Certificates::new();
        let server = p256(certificates.folder(), "server-p256")?;
        let local = p256(certificates.folder(), "local-p256")?;
        let started = upstream(folder.path(), &server, &local)?;
        Ok(Self {
            upstream: started.upstream,
            catalogues: started.catalogues,
            fingerprint: started.fingerprint,
            server,
            pin: started.pin,
            local,
            ops: certificates.client("ops"),
            _certificates: certificates,
            folder,
            disk: tempfile::tempdir_in("/var/tmp")?,
        })
    }

    pub(crate) fn is_real(&self) -> bool {
        matches!(self.upstream, Upstream::Incus(_))
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.upstream {
            Upstream::Files(process) => process.pids(),
            Upstream::Incus(incus) => vec![incus.pid()],
        }
    }

    /// Returns the folder for the contenders' own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a folder on a disk, for what is stored.
    pub(crate) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Returns a document of the upstream.
    pub(crate) fn document(&self, images: usize, path: &str) -> Result<Vec<u8>> {
        let name = match (&self.upstream, path) {
            (Upstream::Incus(incus), _) => return Ok(incus.run(&["query", "--raw", path]).ok().into_bytes()),
            (_, "/1.0") => "server.json".to_owned(),
            _ => format!("images-{images}.json"),
        };
        Ok(fs::read(self.folder.path().join(name))?)
    }

    /// Returns the file to which an upload to `/1.0/uploads/NAME` is written.
    pub(crate) fn upload(&self, name: &str) -> PathBuf {
        self.folder.path().join("uploads/1.0/uploads").join(name)
    }
}

/// Creates a certificate of the kind that public CAs issue today: ECDSA P-256. The client certificate has one too, in favour
/// of proxies that open a connection for each request: the guide that preceded this gateway recommended RSA with 4,096 bits.
fn p256(folder: &Path, name: &str) -> Result<Certificate> {
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = Certificate {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(
        &made.certificate,
        CertificateParams::new(names)?.self_signed(&key)?.pem(),
    )?;
    fs::write(&made.key, key.serialize_pem())?;
    Ok(made)
}
