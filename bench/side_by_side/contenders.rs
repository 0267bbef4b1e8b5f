//! The contenders: the gateway; Nginx, tuned and as in the guide that preceded this gateway; HAProxy and Caddy; and the
//! floor, the minimum possible cost.

pub(crate) mod floor;
pub(crate) mod nginx;
mod rivals;
pub(crate) mod store_floor;

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::list;
use crate::plan::item::{Item, Port};
use crate::process::{Process, STARTER, family};
use crate::site::Site;
use testing::certificates::Certificates;
use testing::gateway::Gateway;
use testing::scene::Setup;

/// The kind of contender.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Caddy,
    /// The minimum possible cost.
    Floor,
    /// The gateway with this binary.
    Gateway(PathBuf),
    /// The gateway with this binary, and with a store.
    GatewayWithStore(PathBuf),
    Haproxy,
    NginxAsInTheGuide,
    /// Nginx, tuned, with a cache of its own.
    NginxCaching,
    NginxTuned,
    /// The minimum possible cost of a download from disk.
    StoreFloor,
}

impl Kind {
    /// Returns the path of its program.
    pub(crate) fn binary(&self) -> &Path {
        match self {
            Self::Caddy => Path::new("/usr/bin/caddy"),
            Self::Floor | Self::StoreFloor => Path::new("/proc/self/exe"),
            Self::Gateway(binary) | Self::GatewayWithStore(binary) => binary,
            Self::Haproxy => Path::new("/usr/sbin/haproxy"),
            Self::NginxAsInTheGuide | Self::NginxCaching | Self::NginxTuned => Path::new(nginx::PROGRAM),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caddy => "Caddy",
            Self::Floor => "the floor",
            Self::Gateway(_) => "the gateway",
            Self::GatewayWithStore(_) => "the gateway, from its store",
            Self::Haproxy => "HAProxy",
            Self::NginxAsInTheGuide => "Nginx as in the guide",
            Self::NginxCaching => "Nginx, from its cache",
            Self::NginxTuned => "Nginx, tuned",
            Self::StoreFloor => "the floor of a store",
        })
    }
}

/// Returns the names and versions of the other programs.
pub(crate) fn versions(kinds: &[Kind]) -> Vec<String> {
    let first_line = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let said = output
            .map(|output| [output.stdout, output.stderr].concat())
            .unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("nginx version: ")
            .to_owned()
    };
    let version = |kind: &Kind| match kind {
        Kind::Caddy => Some(format!("Caddy {}", first_line(kind.binary(), "version"))),
        Kind::Haproxy => Some(first_line(kind.binary(), "-v")),
        Kind::NginxTuned => Some(first_line(kind.binary(), "-v")),
        _ => None,
    };
    kinds.iter().filter_map(version).collect()
}

/// A running contender.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    /// An address for each number of images.
    public: Vec<(usize, SocketAddr)>,
    /// `None` if it has no usable admin port.
    pub(crate) admin: Option<SocketAddr>,
    processes: Vec<Running>,
    /// The time to prepare it before the start, for example to write its configuration.
    pub(crate) prepared_in: Duration,
}

#[derive(Debug)]
enum Running {
    Gateway(Gateway),
    Other(Process),
}

impl Contender {
    /// Returns whether it takes part in this item. Nginx as in the guide does so only in some, because it is slow.
    pub(crate) fn takes_part(&self, item: &Item) -> bool {
        match (&self.kind, item.port) {
            (Kind::Gateway(_), _) if item.is_stored => true,
            (Kind::GatewayWithStore(_) | Kind::NginxCaching, _) => item.is_stored,
            (Kind::StoreFloor, _) => item.is_stored && !item.load.client.is_h2(),
            (_, _) if item.is_stored => false,
            (Kind::Floor, _) => item.with_floor,
            (Kind::NginxAsInTheGuide, _) => item.with_guide,
            (_, Port::Admin) => self.admin.is_some(),
            (_, Port::Public(_)) => true,
        }
    }

    /// Starts it on these cores, in front of every catalogue of the site.
    pub(crate) fn start(kind: &Kind, site: &Site, cores: &[usize]) -> Result<Self> {
        match kind {
            Kind::Caddy => rivals::caddy(site, cores),
            Kind::Floor => floor::start(site, cores),
            Kind::Gateway(binary) | Kind::GatewayWithStore(binary) => gateway(kind, binary, site, cores),
            Kind::Haproxy => rivals::haproxy(site, cores),
            Kind::NginxAsInTheGuide => nginx::as_in_the_guide(site, cores),
            Kind::NginxCaching | Kind::NginxTuned => nginx::tuned(kind, site, cores),
            Kind::StoreFloor => store_floor::start(site, cores),
        }
    }

    /// Returns the public address of the catalogue with this number of images.
    pub(crate) fn public(&self, images: usize) -> SocketAddr {
        let found = self.public.iter().find(|(count, _)| *count == images);
        found.expect("the site has every requested catalogue").1
    }

    /// Returns the ids of all its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let of = |running: &Running| match running {
            Running::Gateway(gateway) => family(gateway.pid()),
            Running::Other(process) => process.pids(),
        };
        self.processes.iter().flat_map(of).collect()
    }
}

/// Starts a process for each catalogue, because a gateway has one upstream. Unused ones are idle.
fn gateway(kind: &Kind, binary: &Path, site: &Site, cores: &[usize]) -> Result<Contender> {
    let mut contender = Contender {
        kind: kind.clone(),
        public: Vec::new(),
        admin: None,
        processes: Vec::new(),
        prepared_in: Duration::ZERO,
    };
    let begun = Instant::now();
    let scratch = Certificates::new();
    for &(images, upstream) in &site.catalogues {
        let mut setup = Setup::new(&scratch, &format!("https://{upstream}"), &site.pin);
        setup.server = site.server.clone();
        setup.local = site.local.clone();
        setup.admins = vec![("ops".to_owned(), site.ops.clone())];
        // Limits for the highest number of measured connections, and for readers that stall on purpose. Like tuned Nginx, it
        // logs no requests.
        let no_records = "[log]\nlevel = \"info,incus_gate::access=warn\"\n";
        let store = match kind {
            Kind::GatewayWithStore(_) => {
                let directory = site.disk().join(format!("store-{images}"));
                format!("[store]\ndirectory = {directory:?}\n")
            }
            _ => String::new(),
        };
        setup.more = format!("[limits]\nmax_connections = 8192\nsend_grace = \"5m\"\n{no_records}{store}");
        let binary = binary.to_str().ok_or("the gateway's path is no text")?;
        contender.prepared_in = begun.elapsed();
        let cores = list(cores);
        let arguments = [&STARTER.1[..], &[&cores, binary]].concat();
        let gateway = Gateway::try_start_by(OsStr::new(STARTER.0), &arguments, &setup.text())
            .map_err(|ended| format!("the gateway does not start: {ended:#?}"))?;
        contender.public.push((images, gateway.public()));
        contender.admin = Some(gateway.admin());
        contender.processes.push(Running::Gateway(gateway));
    }
    Ok(contender)
}
