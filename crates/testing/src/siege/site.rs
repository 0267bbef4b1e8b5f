//! The gateway under attack, and the Incus behind it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::certificates::{Certificate, Certificates};
use crate::gateway::Gateway;
use crate::scene::Setup;
use crate::scripted::Scripted;
use crate::systemd::Manager;

/// The watchdog timeout. The 30 s of the systemd unit would require longer attacks.
pub const WATCHDOG: Duration = Duration::from_secs(4);

/// An Incus with many images, which can change with each request for them.
#[derive(Debug)]
pub struct Upstream {
    scripted: Scripted,
    state: Arc<State>,
    images: usize,
}

#[derive(Debug, Default)]
struct State {
    is_changing: AtomicBool,
    looks: AtomicUsize,
    /// The maximum number of ranges in one request.
    ranges: AtomicUsize,
}

impl Upstream {
    pub fn start(images: usize) -> Self {
        let lists = ["even", "odd"].map(|version| list(images, version));
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let scripted = Scripted::start_bare(move |request, wire| {
            let json = "application/json";
            match request.target().as_str() {
                "/1.0" => wire.answer("200 OK", json, SERVER),
                "/1.0/images?recursion=1" => {
                    let looks = match shared.is_changing.load(Ordering::SeqCst) {
                        true => shared.looks.fetch_add(1, Ordering::SeqCst),
                        false => 0,
                    };
                    wire.answer("200 OK", json, &lists[looks % 2])
                }
                _ => {
                    let ranges = request.field("range").map_or(0, |ranges| ranges.split(',').count());
                    shared.ranges.fetch_max(ranges, Ordering::SeqCst);
                    wire.answer("200 OK", "application/octet-stream", &[0; 1024])
                }
            }
        });
        Self {
            scripted,
            state,
            images,
        }
    }

    pub fn is_changing(&self, is_changing: bool) {
        self.state.is_changing.store(is_changing, Ordering::SeqCst);
    }

    pub fn forget_ranges(&self) {
        self.state.ranges.store(0, Ordering::SeqCst);
    }

    pub fn ranges(&self) -> usize {
        self.state.ranges.load(Ordering::SeqCst)
    }
}

const SERVER: &[u8] = br#"{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":{"api_extensions":[],"api_status":"stable","api_version":"1.0","auth":"trusted","auth_methods":["tls"],"config":{},"environment":{},"public":false}}"#;

/// Returns the fingerprint of one of the images.
pub fn fingerprint(number: usize) -> String {
    let part = |part: u64| (number as u64 * 4 + part + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..4).map(|number| format!("{:016x}", part(number))).collect()
}

fn list(images: usize, version: &str) -> Vec<u8> {
    let image = |number: usize| {
        json!({
            "aliases": [{ "name": format!("distribution/{number}/cloud"), "description": "" }],
            "architecture": "x86_64",
            "auto_update": false,
            "cached": false,
            "created_at": "2023-11-14T22:13:20Z",
            "expires_at": "0001-01-01T00:00:00Z",
            "filename": format!("incus-{number}.tar.xz"),
            "fingerprint": fingerprint(number),
            "last_used_at": "0001-01-01T00:00:00Z",
            "profiles": ["default"],
            "project": "default",
            "properties": {
                "architecture": "amd64",
                "description": format!("Distribution {number} amd64 (20231114_22:13), {version}"),
                "name": format!("distribution-{number}-amd64-cloud-20231114_22:13"),
                "os": "Distribution",
                "release": format!("{number}"),
                "serial": "20231114_22:13",
                "type": "squashfs",
                "variant": "cloud",
            },
            "public": true,
            "size": 100_000_000 + number,
            "type": "container",
            "uploaded_at": "2023-11-14T22:13:20Z",
        })
    };
    let images: Vec<_> = (0..images).map(image).collect();
    json!({ "type": "sync", "metadata": images }).to_string().into_bytes()
}

/// The gateway. Each attack starts a new one, so that the peak memory is that of the attack.
#[derive(Debug)]
pub struct Site {
    // Dropped before what it depends on.
    pub gateway: Gateway,
    pub manager: Manager,
    pub metrics: SocketAddr,
    /// The number of images.
    pub images: usize,
    ops: Certificate,
    _certificates: Certificates,
}

impl Site {
    pub fn start(binary: &Path, upstream: &Upstream) -> Self {
        let certificates = Certificates::new();
        let mut setup = Setup::new(
            &certificates,
            &upstream.scripted.url(),
            &upstream.scripted.certificate(),
        );
        // RSA signatures are the most expensive.
        setup.server = certificates.openssl_rsa("rsa");
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
        setup.more_admin = setup.more_public.clone();
        setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        let manager = Manager::start();
        let mut command = manager.command_of(binary);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        let gateway = Gateway::try_start_command(command, &setup.text())
            .unwrap_or_else(|ended| panic!("the gateway does not start: {ended:#?}"));
        let metrics = gateway.metrics_url();
        let metrics = metrics.strip_prefix("http://").and_then(|address| address.parse().ok());
        Self {
            gateway,
            manager,
            images: upstream.images,
            metrics: metrics.expect("an address"),
            ops: setup.admins[0].1.clone(),
            _certificates: certificates,
        }
    }

    pub fn ops(&self) -> &Certificate {
        &self.ops
    }

    /// Returns the CPU time so far, user and system, in seconds.
    pub fn cpu(&self) -> f64 {
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.gateway.pid())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
    }

    /// Returns the size of the log so far, in bytes.
    pub fn log_size(&self) -> usize {
        self.gateway.log().iter().map(|line| line.len() + 1).sum()
    }
}

/// Returns the address of an attacker.
pub fn attacker(number: usize) -> IpAddr {
    [203, 0, 113, 10 + u8::try_from(number).expect("few attackers")].into()
}
