//! Growth of the cost with the number of open connections, the number of images, and the size of an image.

use std::fs;
use std::net::SocketAddr;

use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use crate::client::{Client, Manner, Upload};
use crate::comparison::{Unit, show_count};
use crate::contenders::{Contender, Kind};
use crate::cost;
use crate::load::{Load, Template};
use crate::machine::Cores;
use crate::measure::{memory, wait_until_idle};
use crate::plan::SMALL;
use crate::plan::item::{Item, Per};
use crate::rounds::{Field, Patience};
use crate::site::{Site, files};
use crate::statistics::Spread;
use crate::{Result, give_up_if_interrupted};

pub(crate) const CONNECTIONS: &str = "curve-connections";
pub(crate) const IMAGES: &str = "curve-images";
pub(crate) const SIZES: &str = "curve-sizes";

/// The horizontal axis of the memory curves over the size of an image.
const BODY: &str = "size of the image";
/// Concurrent requests, whatever the number of connections.
const UNDER_WAY: usize = 16;
/// Clients that read the complete list concurrently.
const READERS: usize = 16;

/// One quantity as a function of another, for each contender.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) title: &'static str,
    /// The name of the horizontal axis.
    pub(crate) over: &'static str,
    /// Whether the horizontal axis is a number of bytes.
    over_bytes: bool,
    pub(crate) unit: Unit,
    pub(crate) points: Vec<usize>,
    /// A number for each point.
    pub(crate) lines: Vec<(Kind, Vec<f64>)>,
}

/// Measures the CPU time per request with 1 to 5,000 open connections that are used in turn.
pub(crate) async fn over_connections(
    cores: &Cores,
    kinds: &[Kind],
    rounds: usize,
    patience: &Patience,
) -> Result<Curve> {
    let mut curve = Curve::new(
        "CPU time per small answer",
        "open connections",
        Unit::Seconds,
        &[1, 10, 100, 1_000, 5_000],
    );
    let site = Site::of_files(&cores.others, &[1])?;
    let contenders: Result<Vec<_>> = kinds
        .iter()
        .map(|kind| Contender::start(kind, &site, &cores.proxies))
        .collect();
    let field = Field::new(site, contenders?, patience);
    let everybody: Vec<_> = (0..kinds.len()).collect();
    curve.lines = kinds.iter().map(|kind| (kind.clone(), Vec::new())).collect();
    for &connections in &curve.points {
        crate::progress(&format!("{CONNECTIONS}, {connections}"));
        let load = Load {
            client: Client::new(Manner::default())?,
            request: Template::get("/1.0/images?recursion=1"),
            connections,
            streams: 1,
            takes_turns: connections.div_ceil(UNDER_WAY),
            anew: false,
        };
        let item = Item::new(CONNECTIONS, curve.title, Per::Request, load);
        let mut taken = vec![Vec::new(); kinds.len()];
        for _ in 0..rounds {
            let (samples, _) = field
                .round(&everybody, async |contender| cost::sample(contender, &item).await)
                .await?;
            for (taken, sample) in taken.iter_mut().zip(samples) {
                taken.push(sample);
            }
        }
        for ((_, line), taken) in curve.lines.iter_mut().zip(taken) {
            line.push(Spread::of(taken).ok_or("no round was asked for")?.median);
        }
    }
    Ok(curve)
}

/// Measures the peak memory after several clients have concurrently read a list of 1 to 50,000 images.
pub(crate) async fn over_images(cores: &Cores, kinds: &[Kind]) -> Result<Curve> {
    let mut curve = Curve::new(
        "Most memory, of sixteen readers of the list",
        "images",
        Unit::Bytes,
        &[1, 100, 5_000, 50_000],
    );
    curve.lines = kinds.iter().map(|kind| (kind.clone(), Vec::new())).collect();
    for &images in &curve.points {
        crate::progress(&format!("{IMAGES}, {images}"));
        let site = Site::of_files(&cores.others, &[images])?;
        for (kind, line) in &mut curve.lines {
            give_up_if_interrupted()?;
            let contender = Contender::start(kind, &site, &cores.proxies)?;
            read_the_list(&contender, images).await?;
            let pids = contender.pids();
            wait_until_idle(&pids).await?;
            line.push(memory(&pids, "VmHWM")? as f64);
        }
    }
    Ok(curve)
}

async fn read_the_list(contender: &Contender, images: usize) -> Result<()> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(images);
    let request = Template::get("/1.0/images?recursion=1").request(address, false)?;
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (client, request) = (client.clone(), request.clone());
        readers.spawn(async move { read(&client, address, request).await });
    }
    while let Some(length) = readers.join_next().await {
        let length = length??;
        // The JSON of an image is much longer than that.
        if length < images * 100 {
            return Err(format!("{length} bytes are no list of {images} images").into());
        }
    }
    Ok(())
}

/// Measures the peak memory after an image of each size has been downloaded, and after one has been uploaded.
pub(crate) async fn over_sizes(cores: &Cores, kinds: &[Kind]) -> Result<[Curve; 2]> {
    let titles = ["Most memory, of a download", "Most memory, of an upload"];
    let mut curves = titles.map(|title| Curve::new(title, BODY, Unit::Bytes, &files::SIZES));
    let site = Site::of_files(&cores.others, &[SMALL])?;
    for (curve, is_upload) in curves.iter_mut().zip([false, true]) {
        crate::progress(&format!("{SIZES}, {}", curve.title));
        for kind in kinds {
            give_up_if_interrupted()?;
            let contender = Contender::start(kind, &site, &cores.proxies)?;
            let mut line = Vec::new();
            for (number, &size) in curve.points.iter().enumerate() {
                match is_upload {
                    false => download(&contender, &files::sized(number), size).await?,
                    true => upload(&contender, &site, size).await?,
                }
                // Not earlier: Nginx listens before it has started its workers.
                let pids = contender.pids();
                wait_until_idle(&pids).await?;
                line.push(memory(&pids, "VmHWM")? as f64);
            }
            curve.lines.push((kind.clone(), line));
        }
    }
    Ok(curves)
}

async fn download(contender: &Contender, fingerprint: &str, size: usize) -> Result<()> {
    let client = Client::new(Manner::default())?;
    let address = contender.public(SMALL);
    let request = Template::get(&format!("/1.0/images/{fingerprint}/export")).request(address, false)?;
    match read(&client, address, request).await? {
        length if length == size => Ok(()),
        length => Err(format!("{length} bytes came of {size}").into()),
    }
}

async fn upload(contender: &Contender, site: &Site, size: usize) -> Result<()> {
    let client = Client::new(Manner {
        presenting: Some(&site.ops),
        ..Manner::default()
    })?;
    let address = contender.admin.ok_or("it has no admin port")?;
    let request = Template {
        method: Method::PUT,
        upload: size as u64,
        ..Template::get("/1.0/uploads/image")
    };
    read(&client, address, request.request(address, false)?).await?;
    let arrived = fs::metadata(site.upload("image"))?.len();
    match arrived == size as u64 {
        true => Ok(()),
        false => Err(format!("{arrived} bytes arrived of {size}").into()),
    }
}

/// Returns the length of a response body.
async fn read(client: &Client, address: SocketAddr, request: Request<Upload>) -> Result<usize> {
    let mut connection = client.connect(address).await?;
    let answer = connection.send(request).await?;
    if !answer.status().is_success() {
        return Err(format!("answered with {}", answer.status()).into());
    }
    let mut body = answer.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, bytes::Bytes::len);
    }
    Ok(length)
}

impl Curve {
    /// Formats a point of the horizontal axis.
    pub(crate) fn name(&self, point: usize) -> String {
        match self.over_bytes {
            true => Unit::Bytes.show_round(point as f64),
            false => show_count(point),
        }
    }

    fn new(title: &'static str, over: &'static str, unit: Unit, points: &[usize]) -> Self {
        Self {
            title,
            over,
            over_bytes: over == BODY,
            unit,
            points: points.to_vec(),
            lines: Vec::new(),
        }
    }
}
