//! What all contenders stand in front of: a fast TLS server that answers as Incus would, and the certificates.
//!
//! It is Nginx, serving files: Incus itself would be the bottleneck, and the proxies are what is measured.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::Result;
use crate::contenders::nginx;
use crate::process::Process;
use crate::support::certificates::{Certificate, Certificates};
use crate::support::images::sha256;
use crate::support::incus::free_address;

/// The size of the image that is downloaded.
const IMAGE: u64 = 32 << 20;
/// The size of an image that nobody reads to its end.
const ENDLESS_IMAGE: u64 = 1 << 40;
/// Its fingerprint, which need not be right.
pub(crate) const ENDLESS: &str = "ee00000000000000000000000000000000000000000000000000000000000000";

#[derive(Debug)]
pub(crate) struct Site {
    /// Dropped before the folder.
    process: Process,
    /// One address for each number of images, smallest first.
    pub(crate) catalogues: Vec<(usize, SocketAddr)>,
    /// SHA-256 of the image that is downloaded.
    pub(crate) fingerprint: String,
    /// What clients see.
    pub(crate) server: Certificate,
    /// What the upstream sees.
    pub(crate) local: Certificate,
    /// The admin's.
    pub(crate) ops: Certificate,
    /// The folder of the three.
    _certificates: Certificates,
    folder: TempDir,
}

impl Site {
    pub(crate) fn start(cores: &[usize], catalogues: &[usize]) -> Result<Self> {
        // In memory, so that no disk is at work beside us.
        let folder = match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm")?,
            false => tempfile::tempdir()?,
        };
        for name in ["exports", "uploads", "temporary"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let certificates = Certificates::new();
        let server = p256(certificates.folder(), "server-p256")?;
        let local = p256(certificates.folder(), "local-p256")?;
        let fingerprint = write_image(&folder.path().join("exports"))?;
        File::create(folder.path().join("exports").join(ENDLESS))?.set_len(ENDLESS_IMAGE)?;
        fs::write(folder.path().join("server.json"), server_json())?;
        let catalogues: Vec<_> = catalogues.iter().map(|&images| (images, free_address())).collect();
        for &(images, _) in &catalogues {
            fs::write(
                folder.path().join(format!("images-{images}.json")),
                images_json(images, &fingerprint),
            )?;
        }
        let process = nginx::start(
            folder.path(),
            "upstream",
            cores,
            &configuration(&catalogues, folder.path(), &server, cores.len()),
        )?;
        Ok(Self {
            process,
            catalogues,
            fingerprint,
            server,
            local,
            ops: certificates.client("ops"),
            _certificates: certificates,
            folder,
        })
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    /// For the contenders' own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A document as the upstream has it.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.folder.path().join(name))?)
    }

    /// Where an upload to `/1.0/uploads/NAME` arrives.
    pub(crate) fn upload(&self, name: &str) -> PathBuf {
        self.folder.path().join("uploads/1.0/uploads").join(name)
    }
}

/// Each write of a download is followed by a look at the other connections (`sendfile_max_chunk`): an upstream that
/// starves its small answers would hide it when a proxy does.
fn configuration(catalogues: &[(usize, SocketAddr)], folder: &Path, server: &Certificate, workers: usize) -> String {
    let folder = folder.display();
    let servers: String = catalogues
        .iter()
        .map(|(images, address)| {
            format!(
                "
    server {{
        listen {address} ssl;
        location = /1.0 {{ default_type application/json; alias {folder}/server.json; }}
        location = /1.0/images {{ default_type application/json; alias {folder}/images-{images}.json; }}
        location ~ ^/1\\.0/images/([0-9a-f]+)/export$ {{
            add_header Content-Disposition \"inline;filename=$1.tar.xz\";
            alias {folder}/exports/$1;
        }}
        location /1.0/uploads/ {{
            root {folder}/uploads;
            dav_methods PUT;
            create_full_put_path on;
            client_max_body_size 0;
            client_body_buffer_size 1m;
        }}
    }}"
            )
        })
        .collect();
    format!(
        "
{}
http {{
    access_log off;
    default_type application/octet-stream;
    keepalive_requests 1000000000;
    sendfile_max_chunk 64k;
    output_buffers 2 64k;
    client_body_temp_path {folder}/temporary;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:upstream:10m;
    ssl_verify_client optional_no_ca;{servers}
}}
",
        nginx::main_context(workers),
        server.certificate.display(),
        server.key.display(),
    )
}

/// What a public certificate authority gives out today: ECDSA over P-256. The local client has one too, which is kind to
/// a proxy that connects anew for each request: the guide that came before this gateway said RSA with 4,096 bits.
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

fn write_image(folder: &Path) -> Result<String> {
    let mut content = Vec::new();
    File::open("/dev/urandom")?.take(IMAGE).read_to_end(&mut content)?;
    let fingerprint = sha256(&[&content]);
    fs::write(folder.join(&fingerprint), content)?;
    Ok(fingerprint)
}

/// As long as that of a real Incus, 13 KB, of which the names of its API's extensions are most.
fn server_json() -> String {
    let extensions: Vec<_> = (0..450)
        .map(|number| format!("an_extension_of_the_api_{number:03}"))
        .collect();
    sync(json!({
        "config": {"core.https_address": "127.0.0.1:8553"},
        "api_extensions": extensions,
        "api_status": "stable",
        "api_version": "1.0",
        "auth": "trusted",
        "public": false,
        "auth_methods": ["tls"],
        "environment": {"server": "incus", "server_version": "6.0.4", "kernel": "Linux", "architectures": ["x86_64", "i686"]},
    }))
}

/// Nine hundred bytes for each image, as a real one's with the usual properties.
fn images_json(count: usize, fingerprint: &str) -> String {
    let others = (1..).map(|number| format!("{number:064x}"));
    let fingerprints = [fingerprint.to_owned(), ENDLESS.to_owned()].into_iter().chain(others);
    // With one image only, that is the one which is downloaded.
    let images: Vec<_> = fingerprints
        .take(count)
        .enumerate()
        .map(|(number, fingerprint)| image(number, &fingerprint))
        .collect();
    sync(json!(images))
}

fn image(number: usize, fingerprint: &str) -> serde_json::Value {
    json!({
        "auto_update": false,
        "properties": {
            "architecture": "amd64",
            "description": format!("Debian bookworm amd64 (20261121_{number:05})"),
            "os": "Debian",
            "release": "bookworm",
            "serial": format!("20261121_{number:05}"),
            "type": "squashfs",
            "variant": "default",
        },
        "public": true,
        "expires_at": "0001-01-01T00:00:00Z",
        "profiles": ["default"],
        "aliases": [{"name": format!("debian/12/build-{number}"), "description": ""}],
        "architecture": "x86_64",
        "cached": false,
        "filename": format!("incus-debian-12-{number}.tar.xz"),
        "fingerprint": fingerprint,
        "size": IMAGE,
        "type": "container",
        "created_at": "2026-11-21T00:00:00Z",
        "last_used_at": "0001-01-01T00:00:00Z",
        "uploaded_at": "2026-11-21T06:00:00.123456789Z",
        "project": "default",
    })
}

fn sync(metadata: serde_json::Value) -> String {
    json!({
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": metadata,
    })
    .to_string()
}
