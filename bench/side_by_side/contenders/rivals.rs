//! HAProxy and Caddy, configured according to their manuals to do the same as tuned Nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::nginx::listens_in_time;
use super::{Contender, Kind, Running};
use crate::Result;
use crate::process::Process;
use crate::site::Site;
use testing::certificates::Certificate;
use testing::incus::free_address;

/// Starts HAProxy with its default buffers of 16 KB: larger ones made it no faster here, and cost memory.
pub(super) fn haproxy(site: &Site, cores: &[usize]) -> Result<Contender> {
    let folder = site.folder();
    let server = in_one_file(&site.server, folder, "haproxy-server.pem")?;
    let local = in_one_file(&site.local, folder, "haproxy-local.pem")?;
    let (server, local) = (server.display(), local.display());
    let ports = Ports::free(site)?;
    let mut proxies = String::new();
    for (&(images, upstream), (_, listen)) in site.catalogues.iter().zip(&ports.public) {
        proxies += &format!(
            "
frontend public_{images}
    bind {listen} ssl crt {server} alpn h2,http/1.1
    http-request deny deny_status 405 unless METH_GET
    http-request deny deny_status 403 unless {{ path /1.0 }} or {{ path_beg /1.0/images }}
    default_backend incus_{images}
backend incus_{images}
    server incus {upstream} ssl verify none crt {local} alpn http/1.1
"
        );
    }
    let configuration = format!(
        "global
    nbthread {threads}
    maxconn 7000
    tune.ssl.default-dh-param 2048
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
    option forwardfor
{proxies}
frontend admin
    bind {admin} ssl crt {server} alpn h2,http/1.1 verify optional ca-file {ops} ca-ignore-err all crt-ignore-err all
    default_backend incus_{last}
",
        threads = cores.len(),
        admin = ports.admin,
        ops = site.ops.certificate.display(),
        last = ports.last,
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, configuration)?;
    ports.start(Kind::Haproxy, site, cores, &["-db", "-f", &path.to_string_lossy()])
}

pub(super) fn caddy(site: &Site, cores: &[usize]) -> Result<Contender> {
    let folder = site.folder();
    let (server, server_key) = (site.server.certificate.display(), site.server.key.display());
    let upwards = |upstream: SocketAddr| {
        format!(
            "reverse_proxy https://{upstream} {{
            transport http {{
                tls_client_auth {} {}
                tls_insecure_skip_verify
                keepalive_idle_conns_per_host 64
                compression off
            }}
        }}",
            site.local.certificate.display(),
            site.local.key.display()
        )
    };
    let ports = Ports::free(site)?;
    let mut sites = String::new();
    for (&(_, upstream), (_, listen)) in site.catalogues.iter().zip(&ports.public) {
        sites += &format!(
            "
:{} {{
    bind 127.0.0.1
    tls {server} {server_key}
    @method not method GET
    respond @method 405
    @published path /1.0 /1.0/images*
    handle @published {{
        {}
    }}
    respond 403
}}
",
            listen.port(),
            upwards(upstream)
        );
    }
    let (_, upstream) = site.catalogues.last().ok_or("a site has a catalogue")?;
    let configuration = format!(
        "{{
    admin off
    auto_https off
    storage file_system {}
    servers {{
        strict_sni_host insecure_off
    }}
}}
{sites}
:{} {{
    bind 127.0.0.1
    tls {server} {server_key} {{
        client_auth {{
            mode request
        }}
    }}
    {}
}}
",
        folder.join("caddy").display(),
        ports.admin.port(),
        upwards(*upstream),
    );
    let path = folder.join("Caddyfile");
    fs::write(&path, configuration)?;
    let path = path.to_string_lossy();
    ports.start(
        Kind::Caddy,
        site,
        cores,
        &["run", "--adapter", "caddyfile", "--config", &path],
    )
}

/// The addresses of a contender.
struct Ports {
    public: Vec<(usize, SocketAddr)>,
    admin: SocketAddr,
    /// The catalogue behind the admin port.
    last: usize,
}

impl Ports {
    fn free(site: &Site) -> Result<Self> {
        let (last, _) = site.catalogues.last().ok_or("a site has a catalogue")?;
        Ok(Self {
            public: site
                .catalogues
                .iter()
                .map(|&(images, _)| (images, free_address()))
                .collect(),
            admin: free_address(),
            last: *last,
        })
    }

    /// Starts the program and waits until it listens.
    fn start(self, kind: Kind, site: &Site, cores: &[usize], arguments: &[&str]) -> Result<Contender> {
        let log = site.folder().join(format!("{kind}.log"));
        let program = kind.binary().to_str().ok_or("a program's path is no text")?;
        let process = Process::start(cores, program, arguments, &log)?;
        for (_, address) in &self.public {
            if !listens_in_time(*address) {
                return Err(format!("{kind} does not start: {}", fs::read_to_string(log)?).into());
            }
        }
        Ok(Contender {
            kind,
            public: self.public,
            admin: Some(self.admin),
            processes: vec![Running::Other(process)],
            prepared_in: Duration::ZERO,
        })
    }
}

/// Writes a certificate and its key to one file, as HAProxy requires.
fn in_one_file(certificate: &Certificate, folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let parts = [fs::read(&certificate.certificate)?, fs::read(&certificate.key)?];
    fs::write(&path, parts.concat())?;
    Ok(path)
}
