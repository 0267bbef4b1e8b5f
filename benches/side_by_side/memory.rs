//! What waiting costs: the memory of clients that are connected and do nothing, or read no further; and the start.
//!
//! Each round starts every contender afresh, one at a time: one that has worked before has memory to spare.

use std::fs;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, Manner};
use crate::comparison::{Comparison, Target, Unit};
use crate::contenders::{Contender, Kind};
use crate::load::Template;
use crate::machine::Cores;
use crate::measure::{memory, open_files, wait_until_idle};
use crate::site::{ENDLESS, Site};
use crate::{Result, give_up_if_interrupted};

const IMAGES: usize = 100;
const IDLE: usize = 2_000;
const STALLED: usize = 500;
/// What a stalled reader takes before it stops.
const READ: usize = 64 << 10;

const START: &str = "start";
const IDLE_NAME: &str = "memory-idle";
const STALLED_NAME: &str = "memory-stalled";
const BINARY: &str = "binary";

/// Those of the four that are wanted.
pub(crate) async fn compare(
    cores: &Cores,
    kinds: &[Kind],
    rounds: usize,
    is_wanted: impl Fn(&str) -> bool,
    results: &mut Vec<Comparison>,
) -> Result<()> {
    let all = [
        Comparison::new(START, "from start to first answer", Unit::Seconds).target(Some(Target::AtMost(50e-3))),
        Comparison::new(IDLE_NAME, "memory of an idle connection", Unit::Bytes).target(Some(Target::AtMost(16e3))),
        Comparison::new(STALLED_NAME, "memory of a stalled download", Unit::Bytes).target(Some(Target::AtMost(200e3))),
        Comparison::new(BINARY, "size of the binary", Unit::Bytes).target(Some(Target::AtMost(12e6))),
    ];
    let wanted: Vec<_> = all
        .into_iter()
        .filter(|comparison| is_wanted(&comparison.name))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let site = Site::start(&cores.others, &[IMAGES])?;
    for mut comparison in wanted {
        // Nginx as in the guide would write each stalled download to the disk instead.
        let takes_part = |kind: &&Kind| match comparison.name.as_str() {
            STALLED_NAME => **kind != Kind::NginxAsInTheGuide,
            _ => true,
        };
        comparison.contenders = kinds.iter().filter(takes_part).cloned().collect();
        for round in 1..=rounds {
            crate::progress(&format!("{}, round {round} of {rounds}", comparison.name));
            let mut samples = Vec::new();
            for kind in &comparison.contenders {
                give_up_if_interrupted()?;
                let sample = sample(&comparison.name, kind, &site, cores).await;
                samples.push(sample.map_err(|error| format!("{}, {kind}: {error}", comparison.name))?);
            }
            comparison.rounds.push(samples);
        }
        results.push(comparison);
    }
    Ok(())
}

async fn sample(name: &str, kind: &Kind, site: &Site, cores: &Cores) -> Result<f64> {
    if name == BINARY {
        return Ok(fs::metadata(kind.binary())?.len() as f64);
    }
    let begun = Instant::now();
    let contender = Contender::start(kind, site, &cores.proxies)?;
    first_answer(&contender).await?;
    match name {
        START => Ok((begun.elapsed() - contender.prepared_in).as_secs_f64()),
        IDLE_NAME => idle(&contender).await,
        _ => stalled(&contender).await,
    }
}

async fn first_answer(contender: &Contender) -> Result<()> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(IMAGES);
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

/// Clients that have had an answer and may want another one.
async fn idle(contender: &Contender) -> Result<f64> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(IMAGES);
    let request = Template::get("/1.0").request(address, false)?;
    let before = Usage::of(contender).await?;
    let mut connections = Vec::new();
    for _ in 0..IDLE {
        let mut connection = client.connect(address).await?;
        connection.send(request.clone()).await?.into_body().collect().await?;
        connections.push(connection);
    }
    before.more_for(contender, IDLE).await
}

/// Clients that have begun to read a long answer and have stopped.
async fn stalled(contender: &Contender) -> Result<f64> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(IMAGES);
    let request = format!("GET /1.0/images/{ENDLESS}/export HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let before = Usage::of(contender).await?;
    let mut streams = Vec::new();
    let mut buffer = vec![0; READ];
    for _ in 0..STALLED {
        let mut stream = client.connect_tls(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_exact(&mut buffer).await?;
        streams.push(stream);
    }
    before.more_for(contender, STALLED).await
}

struct Usage {
    memory: u64,
    files: usize,
}

impl Usage {
    async fn of(contender: &Contender) -> Result<Self> {
        let pids = contender.pids();
        wait_until_idle(&pids).await?;
        Ok(Self {
            memory: memory(&pids, "VmRSS")?,
            files: open_files(&pids)?,
        })
    }

    /// What is used now in addition, for each of so many connections, which must all be there.
    async fn more_for(&self, contender: &Contender, connections: usize) -> Result<f64> {
        // Whatever is freed a moment later is not what a connection costs.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Self::of(contender).await?;
        let more_files = now.files.saturating_sub(self.files);
        match more_files >= connections {
            true => Ok(now.memory.saturating_sub(self.memory) as f64 / connections as f64),
            false => Err(format!("of {connections} connections only {more_files} are open").into()),
        }
    }
}
