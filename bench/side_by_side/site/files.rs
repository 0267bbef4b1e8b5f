//! A fast TLS server that responds like Incus: Nginx, serving files.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::Result;
use crate::contenders::nginx;
use crate::process::Process;
use testing::certificates::Certificate;
use testing::images::sha256;
use testing::incus::free_address;

/// The size of the image to download. It is small, because a sample ends with the last download that started in time.
const IMAGE: u64 = 16 << 20;
/// The size of an image that is never read to its end.
const ENDLESS_IMAGE: u64 = 1 << 40;
/// The fingerprint of that image, which need not be correct.
pub(crate) const ENDLESS: &str = "ee00000000000000000000000000000000000000000000000000000000000000";
/// Sizes of images to download once, in catalogues of a hundred images or more.
pub(crate) const SIZES: [usize; 4] = [1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Returns the fingerprint of the image whose size has this index in [`SIZES`].
pub(crate) fn sized(number: usize) -> String {
    format!("{:064x}", number + 1)
}

/// A running server and its content.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) process: Process,
    /// An address for each number of images.
    pub(super) catalogues: Vec<(usize, SocketAddr)>,
    /// SHA-256 of the image to download.
    pub(super) fingerprint: String,
}

/// Fills the folder, and serves it with this certificate.
pub(super) fn start(folder: &Path, server: &Certificate, cores: &[usize], catalogues: &[usize]) -> Result<Files> {
    for name in ["exports", "uploads", "temporary"] {
        fs::create_dir(folder.join(name))?;
    }
    let exports = folder.join("exports");
    let fingerprint = write_image(&exports)?;
    File::create(exports.join(ENDLESS))?.set_len(ENDLESS_IMAGE)?;
    for (number, size) in SIZES.into_iter().enumerate() {
        File::create(exports.join(sized(number)))?.set_len(size as u64)?;
    }
    fs::write(folder.join("server.json"), server_json())?;
    let catalogues: Vec<_> = catalogues.iter().map(|&images| (images, free_address())).collect();
    for &(images, _) in &catalogues {
        let path = folder.join(format!("images-{images}.json"));
        fs::write(path, images_json(images, &fingerprint))?;
    }
    let configuration = configuration(&catalogues, folder, server, cores.len());
    let process = nginx::start(folder, "upstream", cores, &configuration)?;
    Ok(Files {
        process,
        catalogues,
        fingerprint,
    })
}

/// Returns Nginx's configuration. With `sendfile_max_chunk`, Nginx checks the other connections after each write of a
/// download: an upstream that starves small responses would hide the same fault of a proxy. `sndbuf` limits the data in a
/// socket, because hundreds of stalled downloads would otherwise use up the kernel's TCP memory.
fn configuration(catalogues: &[(usize, SocketAddr)], folder: &Path, server: &Certificate, workers: usize) -> String {
    let folder = folder.display();
    let servers: String = catalogues
        .iter()
        .map(|(images, address)| {
            format!(
                "
    server {{
        listen {address} ssl sndbuf=512k;
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

fn write_image(folder: &Path) -> Result<String> {
    let mut content = Vec::new();
    File::open("/dev/urandom")?.take(IMAGE).read_to_end(&mut content)?;
    let fingerprint = sha256(&[&content]);
    fs::write(folder.join(&fingerprint), content)?;
    Ok(fingerprint)
}

/// Returns a document as long as that of a real Incus, 13 KB, most of which are the names of API extensions.
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

/// Returns a list with nine hundred bytes per image, like a real image with the usual properties.
fn images_json(count: usize, fingerprint: &str) -> String {
    let others = (1..).map(|number| format!("{number:064x}"));
    let fingerprints = [fingerprint.to_owned(), ENDLESS.to_owned()].into_iter().chain(others);
    // In a catalogue with one image, that is the one to download.
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
