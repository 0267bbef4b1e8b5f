//! The client: sends a request on a kept connection or a new one, and repeats it where that is safe.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Connection, SendError, Tunnel};
use super::error::Error;
use super::pool::Pool;
use super::request::{RequestBody, clone_head, is_repeatable};
use super::response::UpstreamBody;
use super::target::Target;
use crate::fair_queue::{FairPermit, FairSemaphore};

/// Time without a response on a reused connection after which a new connection to Incus is tried, and the time for that
/// connection to open. Both together stay below the five seconds within which a client learns that Incus is unavailable.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Number of downloads per worker that Incus may be about to begin. Each costs it some milliseconds of CPU time, because most
/// need a new connection, and administrators wait for them.
const BEGINNING_DOWNLOADS: usize = 4;

/// Client of Incus for one worker.
#[derive(Debug)]
pub struct Upstream {
    target: Arc<Target>,
    pool: Rc<Pool>,
    beginning_downloads: FairSemaphore,
}

/// A response from Incus.
#[derive(Debug)]
pub enum UpstreamResponse {
    /// A response whose body has not been read.
    Response(Response<Box<UpstreamBody>>),
    /// 101, and the stream that the connection has become.
    Upgraded(Response<()>, Box<Tunnel>),
}

impl Upstream {
    /// Creates a client with an empty pool.
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            pool: Rc::new(Pool::new(Arc::clone(target.counts()))),
            target,
            beginning_downloads: FairSemaphore::new(BEGINNING_DOWNLOADS),
        }
    }

    /// Returns whether it is a client of this target.
    pub fn is_for(&self, target: &Arc<Target>) -> bool {
        Arc::ptr_eq(&self.target, target)
    }

    /// Sends a request of a client or of the gateway itself, and returns when the header of the response has arrived, however
    /// long that takes.
    ///
    /// # Errors
    /// Fails if Incus cannot be reached, or does not respond with valid HTTP.
    pub async fn send(
        &self,
        client: Option<SocketAddr>,
        request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, Error> {
        let asked = Instant::now();
        // Boxed, because the future holds a connection that is being opened. Unboxed, every response without a request to
        // Incus would be moved several times with that size.
        let answer = Box::pin(self.send_with_retry(client, request)).await;
        match &answer {
            Ok(_) => self.target.counts().answers.observe(asked.elapsed()),
            Err(error) => self.target.counts().failed(error),
        }
        match &answer {
            // A client's fault says nothing about Incus.
            Err(Error::Client(_)) => {}
            answer => self.target.note(answer.as_ref().err()),
        }
        answer
    }

    /// Waits for the turn to begin a stranger's download, which ends when the returned value is dropped. The networks of
    /// the clients take turns.
    pub async fn download_turn(&self, client: IpAddr) -> FairPermit {
        self.beginning_downloads.acquire(client).await
    }

    /// Fetches a JSON document of at most `limit` bytes.
    ///
    /// # Errors
    /// Fails like [`Self::send`], and if the status is not 200 or the document is larger.
    pub async fn fetch(&self, path: &str, limit: usize) -> Result<Bytes, Error> {
        let document = self.fetch_document(path, limit).await;
        // All other errors were counted where they occurred.
        if let Err(error @ (Error::Status(..) | Error::TooLarge(_) | Error::Unusable)) = &document {
            self.target.counts().failed(error);
        }
        document
    }

    async fn fetch_document(&self, path: &str, limit: usize) -> Result<Bytes, Error> {
        let request = Request::get(path).header(HOST, self.host());
        // The path and the host come from a URL, so this is always a valid request.
        let request = request.body(RequestBody::Empty).map_err(|_| Error::Unusable)?;
        match self.send(None, request).await? {
            UpstreamResponse::Response(response) if response.status() == StatusCode::OK => {
                response.into_body().collect(limit).await
            }
            UpstreamResponse::Response(response) => Err(Error::Status(path.to_owned(), response.status())),
            UpstreamResponse::Upgraded(..) => Err(Error::Unusable),
        }
    }

    /// Returns the `Host` header of the gateway's own requests.
    pub fn host(&self) -> HeaderValue {
        self.target.host_header.clone()
    }

    /// Closes connections that have been idle for so long that Incus may be about to close them.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    async fn send_with_retry(
        &self,
        client: Option<SocketAddr>,
        mut request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, Error> {
        // A pooled connection may go stale at the moment of its use. Retrying is only correct if the request is idempotent
        // (RFC 9110 §9.2.2) and has no body that may be partly consumed.
        while let Some(connection) = self.pool.take(&self.target, client).await {
            self.target.counts().reused.add(1);
            let spare = is_repeatable(&request).then(|| clone_head(&request));
            match self.send_on_reused(client, connection, request).await {
                Ok(answer) => return Ok(answer),
                // A response that cannot be parsed is still a response.
                Err(SendError {
                    unsent,
                    error: Error::Http(source),
                }) if !source.is_parse() => {
                    let unsent = unsent.filter(|unsent| unsent.method().is_idempotent());
                    request = unsent.or(spare).ok_or(Error::Http(source))?;
                }
                Err(failed) => return Err(failed.error),
            }
        }
        let connection = Connection::open(&self.target, client).await?;
        self.exchange(connection, request).await.map_err(|failed| failed.error)
    }

    /// Sends a request on a reused connection. An Incus that hangs looks like one that waits for an operation to end, except
    /// that it accepts no new connections.
    async fn send_on_reused(
        &self,
        client: Option<SocketAddr>,
        connection: Connection,
        request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, SendError> {
        let mut exchange = pin!(self.exchange(connection, request));
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            () = sleep(SIGN_OF_LIFE) => {}
        }
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            knock = timeout(SIGN_OF_LIFE, Connection::open(&self.target, client)) => {
                self.pool.put(knock.map_err(|_| Error::Timeout(SIGN_OF_LIFE * 2))??);
            }
        }
        exchange.await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, SendError> {
        let response = connection.send(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let tunnel = connection.into_tunnel().await;
            return Ok(UpstreamResponse::Upgraded(response.map(drop), Box::new(tunnel)));
        }
        if !is_framed(response.headers()) {
            return Err(Error::Framing.into());
        }
        let (head, incoming) = response.into_parts();
        let body = UpstreamBody::new(incoming, connection, Rc::clone(&self.pool)).await;
        Ok(UpstreamResponse::Response(Response::from_parts(head, Box::new(body))))
    }
}

/// Returns whether the end of a response is unambiguous (RFC 9112 §6.3). hyper follows the chunks, but keeps a
/// `Content-Length` next to them in the header: a client that follows it would take a part for the whole.
fn is_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && !headers.contains_key(CONTENT_LENGTH)
        }
        _ => false,
    }
}
