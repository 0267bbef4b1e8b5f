//! Latency of small responses at a fixed request rate.
//!
//! The loop is open: a request is due at its scheduled time, whether or not earlier ones have been answered, and its latency
//! is measured from then. A contender that stalls is charged for the requests that were due meanwhile.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::client::{Client, Manner};
use crate::comparison::{Comparison, Target, Unit};
use crate::contenders::{Contender, Kind};
use crate::load::Template;
use crate::machine;
use crate::plan::CATALOGUES;
use crate::rounds::Field;
use crate::site::Site;
use crate::site::files::ENDLESS;
use crate::statistics::percentile;
use crate::{Result, give_up_if_interrupted, is_interrupted};
use testing::tls::TlsClient;

const SAMPLE: Duration = Duration::from_millis(1_000);
const CONNECTIONS: usize = 32;
/// The number of downloads that saturate a core.
const DOWNLOADS: usize = 8;
/// Requests that each of them sends for an image that is not endless. The time of a sample ends them before.
const MANY: usize = 400;
/// The time between two attempts to make the page cache forget what was read.
const FORGETTING: Duration = Duration::from_millis(10);
/// The time until they are at full speed.
const WARM_UP: Duration = Duration::from_millis(200);

/// A request rate, and the concurrent load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    title: &'static str,
    /// Requests per second.
    rate: u32,
    beside: Beside,
    /// The target for the 99th percentile, as a ratio.
    target: f64,
}

/// What else happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beside {
    Nothing,
    /// Downloads that saturate a core.
    Downloads,
    /// The same from a store or cache, out of the page cache.
    StoredDownloads,
    /// The same with files that the page cache does not have.
    ColdDownloads,
}

pub(crate) const SETTINGS: [Setting; 3] = [
    Setting {
        name: "latency-5000",
        title: "at a quiet 5,000 requests/s",
        rate: 5_000,
        beside: Beside::Nothing,
        target: 0.7,
    },
    Setting {
        name: "latency-10000",
        title: "at a quiet 10,000 requests/s",
        rate: 10_000,
        beside: Beside::Nothing,
        target: 0.7,
    },
    Setting {
        name: "latency-beside-downloads",
        title: "at 1,000 requests/s beside eight downloads",
        rate: 1_000,
        beside: Beside::Downloads,
        target: 0.5,
    },
];

/// The settings for stores and caches.
pub(crate) const STORED_SETTINGS: [Setting; 2] = [
    Setting {
        name: "latency-beside-stored",
        title: "at 1,000 requests/s beside eight stored downloads",
        rate: 1_000,
        beside: Beside::StoredDownloads,
        target: 0.5,
    },
    Setting {
        name: "latency-beside-cold",
        title: "at 1,000 requests/s beside eight cold stored downloads",
        rate: 1_000,
        beside: Beside::ColdDownloads,
        target: 0.5,
    },
];

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Adds three comparisons for each setting, one for each percentile.
pub(crate) async fn compare(
    field: &Field,
    settings: &[Setting],
    rounds: usize,
    results: &mut Vec<Comparison>,
) -> Result<()> {
    // Nginx as in the guide cannot sustain the rate, and the floor sends no responses of its own.
    let is_able =
        |contender: &Contender| !matches!(contender.kind, Kind::Floor | Kind::NginxAsInTheGuide | Kind::StoreFloor);
    let able: Vec<_> = (0..field.contenders.len())
        .filter(|&index| is_able(&field.contenders[index]))
        .collect();
    for setting in settings {
        let of = |(percentile, _): (&str, f64)| {
            let target = (percentile == "p99").then_some(Target::PartOfNginx(setting.target));
            let name = format!("{}-{percentile}", setting.name);
            Comparison::new(name, format!("{percentile} {}", setting.title), Unit::Seconds)
                .target(target)
                .between(able.iter().map(|&index| &field.contenders[index]))
        };
        let mut comparisons = PERCENTILES.map(of);
        for round in 1..=rounds {
            crate::progress(&format!("{}, round {round} of {rounds}", setting.name));
            let (samples, was_disturbed) = field
                .round(&able, async |contender| sample(contender, &field.site, *setting).await)
                .await?;
            for (comparison, (_, part)) in comparisons.iter_mut().zip(PERCENTILES) {
                comparison
                    .rounds
                    .push(samples.iter().map(|sorted| percentile(sorted, part)).collect());
                comparison.disturbed += usize::from(was_disturbed);
            }
        }
        results.extend(comparisons);
    }
    Ok(())
}

/// Returns the sorted latencies in seconds.
async fn sample(contender: &Contender, site: &Site, setting: Setting) -> Result<Vec<f64>> {
    give_up_if_interrupted()?;
    let address = contender.public(CATALOGUES[0]);
    let client = Client::new(Manner::default())?;
    let request = Template::get("/1.0/images?recursion=1").request(address, false)?;
    let (pacer, ticks) = mpsc::unbounded_channel();
    let ticks = Arc::new(Mutex::new(ticks));
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = client.connect(address).await?;
        let (ticks, request) = (Arc::clone(&ticks), request.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let Some(due) = next(&ticks).await else {
                    return Ok::<_, crate::Error>(latencies);
                };
                let answer = connection.send(request.clone()).await?;
                if !answer.status().is_success() {
                    return Err(format!("answered with {}", answer.status()).into());
                }
                answer.into_body().collect().await?;
                latencies.push(Instant::elapsed(&due).as_secs_f64());
            }
        });
    }
    let stored = vec![site.fingerprint.as_str(); MANY];
    let downloads = match setting.beside {
        Beside::Nothing => None,
        // A catalogue that contains the endless image.
        Beside::Downloads => Some(Downloads::start(contender.public(CATALOGUES[1]), &[ENDLESS], None).await?),
        Beside::StoredDownloads => Some(Downloads::start(address, &stored, None).await?),
        Beside::ColdDownloads => Some(Downloads::start(address, &stored, Some(site.disk())).await?),
    };
    let pacer = thread::spawn(move || pace(setting.rate, &pacer));
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    pacer.join().map_err(|_| "the pacer has panicked")?;
    if let Some(downloads) = downloads {
        downloads.end()?;
    }
    latencies.sort_by(f64::total_cmp);
    match latencies.is_empty() {
        true => Err("nothing was answered".into()),
        false => Ok(latencies),
    }
}

async fn next(ticks: &Mutex<mpsc::UnboundedReceiver<Instant>>) -> Option<Instant> {
    ticks.lock().await.recv().await
}

/// Signals when each request is due. Runs on its own thread, because the runtime's timers have a resolution of 1 ms.
fn pace(rate: u32, ticks: &mpsc::UnboundedSender<Instant>) {
    let start = Instant::now();
    for number in 0.. {
        let due = start + Duration::from_secs(1) * number / rate;
        if due - start >= SAMPLE || is_interrupted() {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if ticks.send(due).is_err() {
            return;
        }
    }
}

/// Endless downloads by clients that do not even decrypt, so that most of their core is left for the upstream.
struct Downloads {
    ended: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Downloads {
    /// Starts downloads of these images, one after the other. The page cache forgets the files in `cold` again and again.
    async fn start(address: SocketAddr, images: &[&str], cold: Option<&Path>) -> Result<Self> {
        let mut downloads = Self {
            ended: Arc::default(),
            bytes: Arc::default(),
            threads: Vec::new(),
        };
        let request = |image| format!("GET /1.0/images/{image}/export HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let request: String = images.iter().map(request).collect();
        if let Some(cold) = cold {
            let (ended, cold) = (Arc::clone(&downloads.ended), cold.to_owned());
            downloads.threads.push(thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) && !is_interrupted() {
                    machine::forget_files(&cold);
                    thread::sleep(FORGETTING);
                }
            }));
        }
        for _ in 0..DOWNLOADS {
            let mut raw = TlsClient::tls13()
                .connect(address)
                .map_err(|end| format!("no connection: {end}"))?;
            raw.send(&request)
                .map_err(|end| format!("no request can be sent: {end}"))?;
            let mut tcp = raw.tcp().try_clone()?;
            let (ended, bytes) = (Arc::clone(&downloads.ended), Arc::clone(&downloads.bytes));
            downloads.threads.push(thread::spawn(move || {
                // The measurement has priority.
                machine::yield_to_others();
                let mut buffer = vec![0; 256 << 10];
                while !ended.load(Ordering::Relaxed) && !is_interrupted() {
                    match tcp.read(&mut buffer) {
                        Ok(read @ 1..) => bytes.fetch_add(read as u64, Ordering::Relaxed),
                        _ => return,
                    };
                }
                drop(raw);
            }));
        }
        tokio::time::sleep(WARM_UP).await;
        downloads.bytes.store(0, Ordering::Relaxed);
        Ok(downloads)
    }

    /// Ends the downloads. Fails if they did not keep the contender busy.
    fn end(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a download has panicked")?;
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        match bytes > 10 << 20 {
            true => Ok(()),
            false => Err(format!("the downloads beside have brought {bytes} bytes only").into()),
        }
    }
}
