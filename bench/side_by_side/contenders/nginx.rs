//! Nginx, configured as in the guide that preceded this gateway, and as tuned by an expert.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Contender, Kind, Running};
use crate::Result;
use crate::process::Process;
use crate::site::Site;
use testing::incus::free_address;

pub(super) const PROGRAM: &str = "/usr/sbin/nginx";
const PATIENCE: Duration = Duration::from_secs(5);
/// The request headers that both set. A header set in a location replaces all those of the enclosing blocks.
const HEADERS: &str = "
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;";

/// Starts Nginx with this configuration and waits until it listens.
pub(crate) fn start(folder: &Path, name: &str, cores: &[usize], configuration: &str) -> Result<Process> {
    let path = folder.join(format!("{name}.conf"));
    let log = folder.join(format!("{name}.log"));
    fs::write(&path, configuration)?;
    let (path, folder) = (path.to_string_lossy(), folder.to_string_lossy());
    let pid = format!("pid {folder}/{name}.pid;");
    let process = Process::start(cores, PROGRAM, &["-p", &folder, "-c", &path, "-g", &pid], &log)?;
    for address in configuration.lines().filter_map(listen) {
        if !listens_in_time(address) {
            return Err(format!("Nginx ({name}) does not start: {}", fs::read_to_string(log)?).into());
        }
    }
    Ok(process)
}

pub(crate) fn main_context(workers: usize) -> String {
    format!(
        "user root;
daemon off;
worker_processes {workers};
error_log stderr warn;
events {{ worker_connections 32768; }}"
    )
}

/// Starts Nginx with all optimizations of its manual: keep-alive connections to the upstream with session resumption,
/// buffers for the largest records, no temporary files, and unbuffered uploads; or a cache, read by threads: otherwise, small
/// answers wait for seconds beside downloads.
pub(super) fn tuned(kind: &Kind, site: &Site, cores: &[usize]) -> Result<Contender> {
    let (name, cache, in_location) = match kind {
        Kind::NginxCaching => (
            "caching",
            format!(
                "
    proxy_cache_path {}/nginx keys_zone=images:10m max_size=10g inactive=1d use_temp_path=off;
    aio threads;
    output_buffers 2 64k;",
                site.disk().display()
            ),
            "
            proxy_cache images;
            proxy_cache_valid 200 1h;
            proxy_cache_lock on;",
        ),
        _ => ("tuned", "\n    proxy_max_temp_file_size 0;".to_owned(), ""),
    };
    let public: Vec<_> = site
        .catalogues
        .iter()
        .map(|&(images, _)| (images, free_address()))
        .collect();
    let admin = free_address();
    let mut servers = String::new();
    for (&(images, upstream), (_, listen)) in site.catalogues.iter().zip(&public) {
        let location = format!(
            "
            if ($request_method != GET) {{ return 405; }}
            proxy_pass https://incus_{images};{HEADERS}
            proxy_set_header Connection \"\";{in_location}"
        );
        servers += &format!(
            "
    upstream incus_{images} {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} ssl http2;
        location ~ ^/1\\.0/images {{{location}
        }}
        location = /1.0 {{{location}
        }}
        location / {{ return 403 \"Public access limited to image downloads only\"; }}
    }}"
        );
    }
    let (last, _) = site.catalogues.last().ok_or("a site has a catalogue")?;
    let configuration = format!(
        "{main}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    ssl_certificate {server};
    ssl_certificate_key {server_key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:clients:10m;
    http2_chunk_size 16k;
    http2_max_concurrent_streams 1000;
    client_max_body_size 0;
    client_body_buffer_size 128k;
    proxy_request_buffering off;
    proxy_http_version 1.1;
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    proxy_busy_buffers_size 256k;{cache}
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_session_reuse on;
    proxy_ssl_certificate {local};
    proxy_ssl_certificate_key {local_key};
    proxy_ssl_verify off;{servers}
    server {{
        listen {admin} ssl http2;
        ssl_verify_client optional_no_ca;
        location / {{
            proxy_pass https://incus_{last};{HEADERS}
            proxy_set_header Connection \"\";
        }}
    }}
}}
",
        main = main_context(cores.len()),
        server = site.server.certificate.display(),
        server_key = site.server.key.display(),
        local = site.local.certificate.display(),
        local_key = site.local.key.display(),
    );
    let process = start(site.folder(), name, cores, &configuration)?;
    Ok(Contender {
        kind: kind.clone(),
        public,
        admin: Some(admin),
        processes: vec![Running::Other(process)],
        prepared_in: Duration::ZERO,
    })
}

/// Starts Nginx with the guide's verbatim server blocks, inside Debian's `nginx.conf`. Its admin port is omitted, because it
/// does not reach Incus.
pub(super) fn as_in_the_guide(site: &Site, cores: &[usize]) -> Result<Contender> {
    let folder = site.folder().display();
    let public: Vec<_> = site
        .catalogues
        .iter()
        .map(|&(images, _)| (images, free_address()))
        .collect();
    let mut servers = String::new();
    for (&(images, upstream), (_, listen)) in site.catalogues.iter().zip(&public) {
        let location = format!(
            "
            if ($request_method != GET) {{ return 405; }}
            proxy_pass https://incus_backend_{images};
            proxy_ssl_certificate {};
            proxy_ssl_certificate_key {};
            proxy_ssl_verify off;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_ciphers HIGH:!aNULL:!MD5;{HEADERS}",
            site.local.certificate.display(),
            site.local.key.display(),
        );
        servers += &format!(
            "
    upstream incus_backend_{images} {{
        server {upstream};
    }}
    server {{
        listen {listen} ssl http2;
        ssl_certificate {};
        ssl_certificate_key {};
        location ~ ^/1\\.0/images {{{location}
        }}
        location = /1.0 {{{location}
        }}
        location / {{ return 403 \"Public access limited to image downloads only\"; }}
    }}",
            site.server.certificate.display(),
            site.server.key.display(),
        );
    }
    let configuration = format!(
        "{}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    access_log {folder}/guide-access.log;
    gzip on;
    proxy_temp_path {folder}/temporary;
    # Not the guide's: so that a connection can be kept for as long as a sample takes.
    keepalive_requests 1000000000;{servers}
}}
",
        main_context(cores.len())
    );
    let process = start(site.folder(), "guide", cores, &configuration)?;
    Ok(Contender {
        kind: Kind::NginxAsInTheGuide,
        public,
        admin: None,
        processes: vec![Running::Other(process)],
        prepared_in: Duration::ZERO,
    })
}

fn listen(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix("listen ")?
        .split([' ', ';'])
        .next()?
        .parse()
        .ok()
}

pub(super) fn listens_in_time(address: SocketAddr) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}
