//! A closed loop: a constant number of concurrent requests for the duration of a sample.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use crate::client::{Client, Connection, Upload};
use crate::{Result, is_interrupted};

const WARM_UP: Duration = Duration::from_millis(40);

/// The requests to send, and how.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) request: Template,
    /// The number of concurrent connections.
    pub(crate) connections: usize,
    /// The number of concurrent requests per connection. More than one requires HTTP/2.
    pub(crate) streams: usize,
    /// The number of connections that share one request slot, so that many are open and few are active. Usually one.
    pub(crate) takes_turns: usize,
    /// Whether each request uses a new connection.
    pub(crate) anew: bool,
}

/// A template from which identical requests are created.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The length of the body.
    pub(crate) upload: u64,
    pub(crate) gzip: bool,
}

impl Template {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            upload: 0,
            gzip: false,
        }
    }

    /// Returns whether a single request takes a large part of a sample's time.
    fn is_large(&self) -> bool {
        self.upload > 0 || self.path.ends_with("/export")
    }

    /// Creates a request for this kind of connection.
    pub(crate) fn request(&self, address: SocketAddr, h2: bool) -> Result<Request<Upload>> {
        // The buffer size of Go's io.Copy.
        let body = Upload::new(self.upload, Bytes::from_static(&[b'x'; 32 << 10]));
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = match h2 {
            true => Uri::try_from(format!("https://{address}{}", self.path))?,
            false => Uri::try_from(&self.path)?,
        };
        let headers = request.headers_mut();
        if !h2 {
            headers.insert(HOST, HeaderValue::try_from(address.to_string())?);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static("Incus 6.0.4"));
        if self.gzip {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(request)
    }
}

/// The completed work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    /// Body bytes, in both directions.
    pub(crate) bytes: u64,
    /// Connections that resumed an earlier TLS session.
    pub(crate) resumed: u64,
}

/// A load whose connections are open.
#[derive(Debug)]
pub(crate) struct Open {
    senders: Vec<Connection>,
}

impl Load {
    /// Opens the persistent connections, so that only the requests are measured.
    pub(crate) async fn open(&self, address: SocketAddr) -> Result<Open> {
        let mut senders = Vec::new();
        if !self.anew {
            for connection in self.client.connect_many(address, self.connections).await? {
                for _ in 1..self.streams {
                    senders.extend(connection.another());
                }
                senders.push(connection);
            }
        }
        Ok(Open { senders })
    }

    /// Sends small requests of this kind, so that connections and caches are warm.
    pub(crate) async fn warm_up(&self, open: &mut Open, address: SocketAddr) -> Result<()> {
        let request = match self.request.is_large() {
            true => Template::get("/1.0"),
            false => self.request.clone(),
        };
        let warm_up = Self {
            request,
            ..self.clone()
        };
        warm_up.run(open, address, Instant::now() + WARM_UP).await?;
        Ok(())
    }

    /// Sends requests until the given time, and waits for the pending responses.
    pub(crate) async fn run(&self, open: &mut Open, address: SocketAddr, until: Instant) -> Result<Done> {
        let mut tasks = JoinSet::new();
        let request = self.request.request(address, self.client.is_h2())?;
        if self.anew {
            for _ in 0..self.connections {
                tasks.spawn(again_and_again_anew(
                    self.client.clone(),
                    request.clone(),
                    address,
                    until,
                ));
            }
        }
        let mut senders = std::mem::take(&mut open.senders).into_iter().peekable();
        while senders.peek().is_some() {
            let turns = senders.by_ref().take(self.takes_turns).collect();
            tasks.spawn(again_and_again(turns, request.clone(), until));
        }
        let mut all = Done::default();
        while let Some(ended) = tasks.join_next().await {
            let (done, senders) = ended??;
            all.requests += done.requests;
            all.bytes += done.bytes + done.requests * self.request.upload;
            all.resumed += done.resumed;
            open.senders.extend(senders);
        }
        Ok(all)
    }
}

type Ended = Result<(Done, Vec<Connection>)>;

async fn again_and_again(mut turns: Vec<Connection>, request: Request<Upload>, until: Instant) -> Ended {
    let mut done = Done::default();
    let mut turn = 0;
    while !is_over(until) {
        ask(&mut turns[turn], request.clone(), &mut done).await?;
        turn = (turn + 1) % turns.len();
    }
    Ok((done, turns))
}

/// Works as Incus's clients do: a new connection, a single request with `Connection: close`, and the end.
async fn again_and_again_anew(
    client: Client,
    mut request: Request<Upload>,
    address: SocketAddr,
    until: Instant,
) -> Ended {
    request
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let mut done = Done::default();
    while !is_over(until) {
        let mut connection = client.connect(address).await?;
        ask(&mut connection, request.clone(), &mut done).await?;
        done.resumed += u64::from(connection.is_resumed);
    }
    Ok((done, Vec::new()))
}

async fn ask(connection: &mut Connection, request: Request<Upload>, done: &mut Done) -> Result<()> {
    let answer = connection.send(request).await?;
    if !answer.status().is_success() {
        return Err(format!("answered with {}", answer.status()).into());
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        done.bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    done.requests += 1;
    Ok(())
}

fn is_over(until: Instant) -> bool {
    Instant::now() >= until || is_interrupted()
}
