//! The attacks. All of them stay within the default limits.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::site::{Site, attacker, fingerprint};
use crate::network;
use crate::tls::frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, PRIORITY, SETTINGS, block, frame};
use crate::tls::{Raw, TlsClient};

/// Requests per second and address, slightly below the limit.
const RATE: u32 = 45;
/// Size of the initial burst, in requests.
const BURST: usize = 200;
/// Number of connections with a pending response.
const WAITING: usize = 100;
/// Connections per address on the public port: the limit minus one spare.
const CONNECTIONS: usize = 255;
/// Streams per connection.
const STREAMS: u32 = 32;

/// The kind of attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attack {
    PlainLists,
    HostilePatterns,
    Filters,
    SpreadFilters,
    Searches,
    LongQueries,
    ClientHellos,
    RefusedStreams,
    UnreadStreams,
    SlowReaders,
    Ranges,
    IdleConnections,
    Frames,
    LargeHeaders,
    SilentMonitors,
}

impl Attack {
    /// All attacks but plain lists, the baseline.
    pub const ALL: [Self; 14] = [
        Self::HostilePatterns,
        Self::Filters,
        Self::SpreadFilters,
        Self::Searches,
        Self::LongQueries,
        Self::ClientHellos,
        Self::RefusedStreams,
        Self::UnreadStreams,
        Self::SlowReaders,
        Self::Ranges,
        Self::IdleConnections,
        Self::Frames,
        Self::LargeHeaders,
        Self::SilentMonitors,
    ];

    /// Returns whether the images change during the attack.
    pub fn needs_changes(self) -> bool {
        self == Self::SlowReaders
    }

    /// Returns the factor by which the attack must run longer than others to have an effect.
    pub fn length(self) -> u64 {
        match self {
            Self::UnreadStreams | Self::SlowReaders => 2,
            _ => 1,
        }
    }

    /// Attacks from one address until the given time. Returns the number of requests or connections.
    pub fn run(self, site: &Site, number: usize, until: Instant) -> usize {
        let from = attacker(number);
        match self {
            Self::PlainLists => ask(site, from, until, |_| get("/1.0/images", "Accept-Encoding: gzip\r\n")),
            Self::HostilePatterns => ask(site, from, until, |n| {
                let clause = |i: usize| format!("fingerprint eq .*(.?[0-7]?[8-f]?){{25}}[0-7].{{15}}%25{n}z{i}");
                filter(&(0..8).map(clause).collect::<Vec<_>>().join(" or "))
            }),
            Self::Filters => ask(site, from, until, eight_clauses),
            Self::SpreadFilters => spread_filters(site, number, until),
            Self::Searches => ask(site, from, until, |n| {
                let words: Vec<_> = (0..30).map(|i| format!("d%20is{}", (n + i) % 7)).collect();
                get(&format!("/?q=amd64+{}", words.join("+")), "Accept: text/html\r\n")
            }),
            Self::LongQueries => ask(site, from, until, |_| {
                get(&format!("/1.0/images?{}", "a&".repeat(31_000)), "")
            }),
            Self::Ranges => ask(site, from, until, |n| {
                let ranges = vec!["0-0"; 14_000].join(",");
                let path = format!("/1.0/images/{}/export", fingerprint(n % site.images));
                get(&path, &format!("Range: bytes={ranges}\r\n"))
            }),
            Self::ClientHellos => hellos(site, from, until),
            Self::RefusedStreams => refused_streams(site, from, until),
            Self::UnreadStreams => unread_streams(site, from, until),
            Self::SlowReaders => slow_readers(site, from, until),
            Self::IdleConnections => idle_connections(site, number, until),
            Self::Frames => frames(site, from, until),
            Self::LargeHeaders => ask(site, from, until, |_| {
                get("/1.0/images", &format!("If-None-Match: {}\r\n", "a,".repeat(30_000)))
            }),
            Self::SilentMonitors => silent_monitors(site, until),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlainLists => "plain lists",
            Self::HostilePatterns => "hostile patterns in filters",
            Self::Filters => "filters of eight clauses",
            Self::SpreadFilters => "filters from 256 /64s",
            Self::Searches => "searches of the page",
            Self::LongQueries => "queries of 31,000 pairs",
            Self::ClientHellos => "bursts of ClientHellos",
            Self::RefusedStreams => "refused streams of HTTP/2",
            Self::UnreadStreams => "unread streams of HTTP/2",
            Self::SlowReaders => "slow readers of changing lists",
            Self::Ranges => "14,000 ranges of an export",
            Self::IdleConnections => "idle connections of a /60",
            Self::Frames => "frames that need no answer",
            Self::LargeHeaders => "headers of 60,000 bytes",
            Self::SilentMonitors => "silent connections to metrics",
        })
    }
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n{fields}\r\n")
}

fn filter(text: &str) -> String {
    let escape = |c: char| match c {
        ' ' => "+".to_owned(),
        '+' | '{' | '}' | '[' | ']' | '?' | '&' | '#' => format!("%{:02x}", u32::from(c)),
        _ => c.to_string(),
    };
    let text: String = text.chars().map(escape).collect();
    get(&format!("/1.0/images?filter={text}"), "")
}

/// Returns a different filter for each number.
fn eight_clauses(number: usize) -> String {
    let clause = |i: usize| format!("properties.description eq .*{number}x{i}");
    filter(&(0..8).map(clause).collect::<Vec<_>>().join(" or "))
}

/// A request schedule: a burst, followed by a constant rate.
struct Turns {
    begun: Instant,
    taken: usize,
    until: Instant,
}

impl Turns {
    fn new(until: Instant) -> Self {
        Self {
            begun: Instant::now(),
            taken: 0,
            until,
        }
    }

    /// Waits for the next request's time. Returns `false` when the attack is over.
    fn next(&mut self) -> bool {
        let late = self.taken.saturating_sub(BURST);
        let due = self.begun + Duration::from_secs_f64(late as f64 / f64::from(RATE));
        self.taken += 1;
        thread::sleep(due.min(self.until).saturating_duration_since(Instant::now()));
        Instant::now() < self.until
    }
}

/// Sends requests over many connections. A response is read when its connection is used again.
fn ask(site: &Site, from: IpAddr, until: Instant, request: impl Fn(usize) -> String) -> usize {
    let client = TlsClient::tls13();
    let mut waiting: VecDeque<Raw> = VecDeque::new();
    let (mut turns, mut done) = (Turns::new(until), 0);
    while turns.next() {
        let ready = match waiting.len() {
            WAITING.. => waiting.pop_front().and_then(|raw| answered(raw, until)),
            _ => None,
        };
        let connection = ready.map_or_else(|| client.connect_announced(from, site.gateway.public()), Ok);
        // A rejected connection is retried at the next request's time.
        let Ok(mut raw) = connection else { continue };
        if raw.send(request(done)).is_ok() {
            done += 1;
            waiting.push_back(raw);
        }
    }
    done
}

/// Reads the response, and returns the connection if it can be reused.
fn answered(mut raw: Raw, until: Instant) -> Option<Raw> {
    raw.patience = until.saturating_duration_since(Instant::now());
    let answer = raw.read_answer().ok()?;
    (answer.head.field("connection") != Some("close")).then_some(raw)
}

/// Sends filters from each /64 of a /56, one at a time on a connection of each, as fast as they are answered.
fn spread_filters(site: &Site, number: usize, until: Instant) -> usize {
    let client = TlsClient::tls13();
    let number = u16::try_from(number).expect("few attackers");
    let mut open: Vec<(Ipv6Addr, Option<Raw>)> = (0..256)
        .map(|n| (Ipv6Addr::from([0x2001, 0xdb8, 1, number << 8 | n, 0, 0, 0, 1]), None))
        .collect();
    let mut done = 0;
    loop {
        for (from, connection) in &mut open {
            if Instant::now() >= until {
                return done;
            }
            let ready = connection.take().and_then(|raw| answered(raw, until));
            // A rejected connection is retried in the next round.
            *connection = ready.or_else(|| client.connect_announced((*from).into(), site.gateway.public()).ok());
            if let Some(raw) = connection
                && raw.send(eight_clauses(usize::from(number) << 32 | done)).is_ok()
            {
                done += 1;
            }
        }
    }
}

/// Opens the maximum number of connections of an address every second, on both ports.
fn hellos(site: &Site, from: IpAddr, until: Instant) -> usize {
    let hello = TlsClient::tls13().hello();
    let mut done = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let burst: Vec<TcpStream> = (0..CONNECTIONS)
            .filter_map(|number| {
                let port = match number % 8 {
                    0 => site.gateway.admin(),
                    _ => site.gateway.public(),
                };
                let mut tcp = network::announce(from, port).ok()?;
                tcp.write_all(&hello).ok().map(|()| tcp)
            })
            .collect();
        done += burst.len();
        thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    done
}

/// Opens an HTTP/2 connection. A window of zero prevents the server from sending response bodies.
fn connect_http2(from: IpAddr, port: std::net::SocketAddr, window: u32) -> Option<Raw> {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut raw = TlsClient::tls13().alpn(&["h2"]).connect_announced(from, port).ok()?;
    let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    settings.extend(window.to_be_bytes());
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat();
    raw.send(begin).ok().map(|()| raw)
}

fn stream(number: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gate.test"),
        (":path", path),
    ];
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block(fields))
}

/// Reads and discards the available input.
fn take(raw: &Raw, most: usize) {
    let mut part = vec![0; most];
    let mut tcp = raw.tcp();
    let _ = tcp.set_nonblocking(true);
    let _ = tcp.read(&mut part);
    let _ = tcp.set_nonblocking(false);
}

/// Sends requests to the admin port without a certificate. Responses are neither parsed nor acknowledged.
fn refused_streams(site: &Site, from: IpAddr, until: Instant) -> usize {
    /// Streams per batch, and the pause between batches.
    const BATCH: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(50);
    let path = format!("/1.0/{}", "x".repeat(1_000));
    let mut done = 0;
    while Instant::now() < until {
        let Some(mut raw) = connect_http2(from, site.gateway.admin(), 65_535) else {
            thread::sleep(PAUSE);
            continue;
        };
        for batch in 0.. {
            let streams: Vec<_> = (0..BATCH).flat_map(|n| stream(batch * BATCH + n, &path)).collect();
            if Instant::now() >= until || raw.send(streams).is_err() {
                break;
            }
            done += BATCH as usize;
            take(&raw, 1 << 16);
            thread::sleep(PAUSE);
        }
    }
    done
}

/// Requests filtered lists that it does not read, on the maximum number of connections.
fn unread_streams(site: &Site, from: IpAddr, until: Instant) -> usize {
    let mut open: VecDeque<Raw> = VecDeque::new();
    let (mut turns, mut done) = (Turns::new(until), 0);
    let mut current: Option<(Raw, u32)> = None;
    while turns.next() {
        if let Some((raw, STREAMS..)) = current {
            open.push_back(raw);
            current = None;
        }
        if open.len() >= CONNECTIONS {
            open.pop_front();
        }
        let next = current
            .take()
            .or_else(|| connect_http2(from, site.gateway.public(), 0).map(|raw| (raw, 0)));
        let Some((mut raw, number)) = next else { continue };
        let path = format!("/1.0/images?recursion=1&filter=size+ne+{done}");
        if raw.send(stream(number, &path)).is_ok() {
            done += 1;
            current = Some((raw, number + 1));
        }
    }
    done
}

/// Requests a list after each change, and reads each response at 4 KiB per second.
fn slow_readers(site: &Site, from: IpAddr, until: Instant) -> usize {
    const TICK: Duration = Duration::from_millis(500);
    let client = TlsClient::tls13();
    let mut open: VecDeque<Raw> = VecDeque::new();
    let mut done = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let path = match done % 2 {
            0 => "/1.0/images?recursion=1&filter=public+eq+true",
            _ => "/1.0/images?recursion=1",
        };
        let reader = client
            .connect_announced(from, site.gateway.public())
            .and_then(|mut raw| {
                SockRef::from(raw.tcp()).set_recv_buffer_size(4 << 10)?;
                raw.send(get(path, "")).map(|()| raw)
            });
        if let Ok(raw) = reader {
            done += 1;
            open.push_back(raw);
        }
        if open.len() > CONNECTIONS {
            open.pop_front();
        }
        for raw in &open {
            take(raw, 2 << 10);
        }
        thread::sleep(TICK.saturating_sub(begun.elapsed()));
    }
    done
}

/// Sends frames that need no response, as fast as they are read, over many connections.
fn frames(site: &Site, from: IpAddr, until: Instant) -> usize {
    /// The time for which a connection that is not read is waited for.
    const PATIENCE: Duration = Duration::from_millis(1);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let priority = frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]);
    let chunk = [settings, priority].concat().repeat(1_000);
    let mut open: Vec<Raw> = Vec::new();
    let mut done = 0;
    while Instant::now() < until {
        if open.len() < WAITING {
            open.extend(connect_http2(from, site.gateway.public(), 65_535));
        }
        open.retain_mut(|raw| {
            let sent = raw.send_until_stopped(&chunk, chunk.len() as u64, PATIENCE);
            take(raw, 1 << 16);
            done += usize::from(sent.as_ref().is_ok_and(|sent| *sent > 0));
            sent.is_ok()
        });
    }
    done
}

/// Opens idle connections from a /60: the maximum for each of its /64 prefixes.
fn idle_connections(site: &Site, number: usize, until: Instant) -> usize {
    let client = TlsClient::tls13();
    let prefix = u16::try_from(number).expect("few attackers") << 4;
    let mut open = Vec::new();
    'all: for _ in 0..CONNECTIONS {
        for network in 0..16 {
            if Instant::now() >= until {
                break 'all;
            }
            let from = Ipv6Addr::from([0x2001, 0xdb8, 0, prefix + network, 0, 0, 0, 1]);
            open.extend(client.connect_announced(from.into(), site.gateway.public()).ok());
        }
    }
    thread::sleep(until.saturating_duration_since(Instant::now()));
    open.len()
}

fn silent_monitors(site: &Site, until: Instant) -> usize {
    /// The number of connections that one attacker opens.
    const SILENT: usize = 200;
    let mut open: Vec<TcpStream> = Vec::new();
    let mut done = 0;
    while Instant::now() < until {
        open.retain(|tcp| !is_closed(tcp));
        while open.len() < SILENT && Instant::now() < until {
            let Ok(tcp) = TcpStream::connect_timeout(&site.metrics, Duration::from_secs(1)) else {
                break;
            };
            done += 1;
            open.push(tcp);
        }
        thread::sleep(Duration::from_millis(100));
    }
    done
}

fn is_closed(tcp: &TcpStream) -> bool {
    let _ = tcp.set_nonblocking(true);
    !matches!(tcp.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}
