//! The cost of inactivity: memory of idle clients and of stalled readers; and the start time.
//!
//! Each round starts every contender afresh, one at a time: a process that has worked before has spare memory, and the kernel
//! has too little TCP memory for the stalled downloads of all of them.

use std::fs;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, Manner};
use crate::comparison::{Comparison, Target, Unit};
use crate::contenders::{Contender, Kind};
use crate::load::Template;
use crate::machine::Cores;
use crate::measure::{kernel_memory, memory, open_files, wait_until_idle};
use crate::site::Site;
use crate::site::files::ENDLESS;
use crate::statistics::shuffle;
use crate::{Result, give_up_if_interrupted};

const IDLE: usize = 2_000;
const STALLED: usize = 500;
/// The number of bytes that a stalled reader reads before it stops.
const READ: usize = 64 << 10;
/// The size of its kernel's receive buffer. Further data fills the buffers on the contender's side.
const WINDOW: usize = 64 << 10;
/// The number of rounds. Memory hardly varies between starts.
const ROUNDS: usize = 3;

pub(crate) const START: &str = "start";

/// The kinds of measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Start,
    Idle,
    Stalled,
    /// Stalled readers of a store or a cache.
    StalledStored,
    Binary,
}

impl Probe {
    fn comparisons(self) -> Vec<Comparison> {
        let one = |name: &str, title: &str, unit, most: f64| {
            Comparison::new(name, title, unit).target(Some(Target::AtMost(most)))
        };
        match self {
            Self::Start => vec![one(START, "from start to first answer", Unit::Seconds, 50e-3)],
            Self::Idle => vec![one("memory-idle", "memory of an idle connection", Unit::Bytes, 16e3)],
            Self::Stalled => {
                let title = "and of its two connections in the kernel";
                vec![
                    one("memory-stalled", "memory of a stalled download", Unit::Bytes, 200e3),
                    Comparison::new("memory-stalled-kernel", title, Unit::Bytes),
                ]
            }
            Self::StalledStored => {
                let title = "memory of a stalled download";
                vec![one("stored-memory-stalled", title, Unit::Bytes, 160e3)]
            }
            Self::Binary => vec![one("binary", "size of the binary", Unit::Bytes, 12e6)],
        }
    }

    fn rounds(self, most: usize) -> usize {
        match self {
            Self::Start => most,
            Self::Idle | Self::Stalled | Self::StalledStored => most.min(ROUNDS),
            Self::Binary => 1,
        }
    }

    fn takes_part(self, kind: &Kind) -> bool {
        match self {
            Self::Start | Self::StalledStored => true,
            // Nginx as in the guide would buffer each stalled download on disk, and otherwise behaves like the tuned one.
            Self::Idle | Self::Stalled | Self::Binary => *kind != Kind::NginxAsInTheGuide,
        }
    }

    /// Returns a number for each comparison.
    async fn sample(self, kind: &Kind, site: &Site, cores: &Cores) -> Result<Vec<f64>> {
        if matches!(self, Self::Binary) {
            return Ok(vec![fs::metadata(kind.binary())?.len() as f64]);
        }
        let begun = Instant::now();
        let contender = Contender::start(kind, site, &cores.proxies)?;
        first_answer(&contender, site).await?;
        let started = begun.elapsed() - contender.prepared_in;
        match self {
            Self::Idle => idle(&contender, site).await,
            Self::Stalled => stalled(&contender, site, ENDLESS).await,
            Self::StalledStored => {
                fill(&contender, site).await?;
                Ok(stalled(&contender, site, &site.fingerprint).await?[..1].to_vec())
            }
            Self::Start | Self::Binary => Ok(vec![started.as_secs_f64()]),
        }
    }
}

/// Runs the selected probes and returns their comparisons.
pub(crate) async fn compare(
    probes: &[Probe],
    site: &Site,
    cores: &Cores,
    kinds: &[Kind],
    rounds: usize,
    is_wanted: impl Fn(&str) -> bool,
    results: &mut Vec<Comparison>,
) -> Result<()> {
    for probe in probes {
        let mut comparisons = probe.comparisons();
        if !comparisons.iter().any(|comparison| is_wanted(&comparison.name)) {
            continue;
        }
        let name = comparisons[0].name.clone();
        let taking_part: Vec<_> = kinds.iter().filter(|kind| probe.takes_part(kind)).cloned().collect();
        for comparison in &mut comparisons {
            comparison.contenders.clone_from(&taking_part);
        }
        let rounds = probe.rounds(rounds);
        for round in 1..=rounds {
            crate::progress(&format!("{name}, round {round} of {rounds}"));
            let mut order: Vec<_> = (0..taking_part.len()).collect();
            shuffle(&mut order);
            let mut samples = vec![Vec::new(); taking_part.len()];
            for index in order {
                give_up_if_interrupted()?;
                let kind = &taking_part[index];
                let sample = probe.sample(kind, site, cores).await;
                samples[index] = sample.map_err(|error| format!("{name}, {kind}: {error}"))?;
            }
            for (number, comparison) in comparisons.iter_mut().enumerate() {
                comparison
                    .rounds
                    .push(samples.iter().map(|sample| sample[number]).collect());
            }
        }
        results.extend(comparisons);
    }
    Ok(())
}

async fn first_answer(contender: &Contender, site: &Site) -> Result<()> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(site.catalogues[0].0);
    let mut connection = client.connect(address).await?;
    let answer = connection.send(Template::get("/1.0").request(address, false)?).await?;
    match answer.status().is_success() {
        true => {
            answer.into_body().collect().await?;
            Ok(())
        }
        false => Err(format!("answered with {}", answer.status()).into()),
    }
}

/// Downloads the image once, so that it is stored.
async fn fill(contender: &Contender, site: &Site) -> Result<()> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(site.catalogues[0].0);
    let path = format!("/1.0/images/{}/export", site.fingerprint);
    let mut connection = client.connect(address).await?;
    let answer = connection.send(Template::get(&path).request(address, false)?).await?;
    answer.into_body().collect().await?;
    Ok(())
}

/// Measures clients that have received a response and keep the connection open.
async fn idle(contender: &Contender, site: &Site) -> Result<Vec<f64>> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(site.catalogues[0].0);
    let request = Template::get("/1.0").request(address, false)?;
    let before = Usage::of(contender).await?;
    let mut connections = client.connect_many(address, IDLE).await?;
    for connection in &mut connections {
        connection.send(request.clone()).await?.into_body().collect().await?;
    }
    let more = before.more_for(contender, IDLE).await?;
    Ok(vec![more.memory])
}

/// Measures clients that have stopped in the middle of a long response.
async fn stalled(contender: &Contender, site: &Site, image: &str) -> Result<Vec<f64>> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(site.catalogues[0].0);
    let request = format!("GET /1.0/images/{image}/export HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let before = Usage::of(contender).await?;
    let mut streams = Vec::new();
    let mut buffer = vec![0; READ];
    for _ in 0..STALLED {
        let mut stream = client.connect_tls_from_afar(address, WINDOW).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_exact(&mut buffer).await?;
        streams.push(stream);
    }
    let more = before.more_for(contender, STALLED).await?;
    Ok(vec![more.memory, more.kernel])
}

struct Usage {
    memory: u64,
    kernel: u64,
    files: usize,
}

/// The additional memory per connection.
struct More {
    memory: f64,
    kernel: f64,
}

impl Usage {
    async fn of(contender: &Contender) -> Result<Self> {
        let pids = contender.pids();
        wait_until_idle(&pids).await?;
        Ok(Self {
            memory: memory(&pids, "VmRSS")?,
            kernel: kernel_memory(&pids)?,
            files: open_files(&pids)?,
        })
    }

    /// Returns the additional memory per connection. Fails if not all connections are open.
    async fn more_for(&self, contender: &Contender, connections: usize) -> Result<More> {
        // Memory that is freed shortly afterwards is not part of the cost of a connection.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Self::of(contender).await?;
        let more_files = now.files.saturating_sub(self.files);
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / connections as f64;
        match more_files >= connections {
            true => Ok(More {
                memory: each(now.memory, self.memory),
                kernel: each(now.kernel, self.kernel),
            }),
            false => Err(format!("of {connections} connections only {more_files} are open").into()),
        }
    }
}
