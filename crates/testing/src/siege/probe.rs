//! Measurement of the service that other clients get during an attack.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::site::{Site, WATCHDOG};
use crate::tls::TlsClient;

const EVERY: Duration = Duration::from_millis(100);
/// A request without a response after this time has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sorted response times of one kind of client. A failure counts as `PATIENCE`.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or(PATIENCE)
    }

    /// Returns the 99th percentile. With fewer than a hundred samples, this is the slowest.
    pub fn p99(&self) -> Duration {
        let at = (self.0.len() * 99).div_ceil(100).max(1) - 1;
        self.0.get(at).copied().unwrap_or(PATIENCE)
    }
}

/// All measurements.
#[derive(Debug)]
pub struct Seen {
    /// An administrator's new connection and `GET /1.0`.
    pub admin: Times,
    /// The same for a stranger who is not an attacker.
    pub stranger: Times,
    /// `GET /healthz`.
    pub health: Times,
    /// The longest interval between two keep-alives to the service manager.
    pub unfed: Duration,
}

/// Measures until the given time.
pub fn all(site: &Site, until: Instant) -> Seen {
    let admin = site.gateway.admin();
    let public = site.gateway.public();
    thread::scope(|scope| {
        let admin = scope.spawn(|| {
            repeat(until, || {
                get(&TlsClient::of(site.ops()), [198, 51, 100, 1].into(), admin)
            })
        });
        let stranger = scope.spawn(|| repeat(until, || get(&TlsClient::tls13(), [198, 51, 100, 2].into(), public)));
        let health = scope.spawn(|| repeat(until, || health(site.metrics)));
        let fed = scope.spawn(|| longest_silence(site, until));
        Seen {
            admin: admin.join().expect("the probe does not panic"),
            stranger: stranger.join().expect("the probe does not panic"),
            health: health.join().expect("the probe does not panic"),
            unfed: fed.join().expect("the probe does not panic"),
        }
    })
}

fn repeat(until: Instant, ask: impl Fn() -> bool) -> Times {
    let mut times = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let is_served = ask();
        let took = begun.elapsed();
        times.push(if is_served { took } else { PATIENCE });
        thread::sleep(EVERY.saturating_sub(took));
    }
    times.sort();
    Times(times)
}

fn get(client: &TlsClient, from: IpAddr, port: SocketAddr) -> bool {
    let answer = client.connect_announced(from, port).and_then(|mut raw| raw.get("/1.0"));
    answer.is_ok_and(|answer| answer.head.status == 200)
}

fn health(address: SocketAddr) -> bool {
    let ask = || {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200 "))
}

fn longest_silence(site: &Site, until: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut heard = Instant::now();
    while Instant::now() < until {
        if site.manager.receives("WATCHDOG=1", WATCHDOG) {
            longest = longest.max(heard.elapsed());
            heard = Instant::now();
        }
    }
    longest.max(heard.elapsed())
}
