//! The client: sends a request on a kept connection or a new one, and repeats it where that is safe.

use std::net::SocketAddr;
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

/// After so long without an answer on a connection that stood before, Incus is knocked at; and so long it may take to
/// open. Both together stay under the five seconds in which a client learns that Incus is away.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// A client of Incus, for one worker.
#[derive(Debug)]
pub struct Upstream {
    target: Arc<Target>,
    pool: Rc<Pool>,
}

/// What Incus answered.
#[derive(Debug)]
pub enum UpstreamResponse {
    /// A response whose body is still to come.
    Response(Response<Box<UpstreamBody>>),
    /// 101, and the stream that the connection has become.
    Upgraded(Response<()>, Box<Tunnel>),
}

impl Upstream {
    /// A client with an empty pool.
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            pool: Rc::new(Pool::new(Arc::clone(target.counts()))),
            target,
        }
    }

    /// Whether it is a client of this Incus.
    pub fn is_for(&self, target: &Arc<Target>) -> bool {
        Arc::ptr_eq(&self.target, target)
    }

    /// Sends a request, a client's or our own, and returns as soon as the head of the answer is there, however long that
    /// takes.
    pub async fn send(
        &self,
        client: Option<SocketAddr>,
        request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, Error> {
        let asked = Instant::now();
        // Boxed, for it has room for a connection in the making: every answer that does not ask Incus would be moved about
        // with room for that, several times.
        let answer = Box::pin(self.send_with_retry(client, request)).await;
        match &answer {
            Ok(_) => self.target.counts().answers.observe(asked.elapsed()),
            Err(error) => self.target.counts().failed(error),
        }
        match &answer {
            // That says nothing of Incus.
            Err(Error::Client(_)) => {}
            answer => self.target.note(answer.as_ref().err()),
        }
        answer
    }

    /// Fetches a JSON document of at most `limit` bytes.
    pub async fn fetch(&self, path: &str, limit: usize) -> Result<Bytes, Error> {
        let document = self.fetch_document(path, limit).await;
        // All others have been counted where they happened.
        if let Err(error @ (Error::Status(..) | Error::TooLarge(_) | Error::Unusable)) = &document {
            self.target.counts().failed(error);
        }
        document
    }

    async fn fetch_document(&self, path: &str, limit: usize) -> Result<Bytes, Error> {
        let request = Request::get(path).header(HOST, self.host());
        // A path and a host that were a URL's make a request.
        let request = request.body(RequestBody::Empty).map_err(|_| Error::Unusable)?;
        match self.send(None, request).await? {
            UpstreamResponse::Response(response) if response.status() == StatusCode::OK => {
                response.into_body().collect(limit).await
            }
            UpstreamResponse::Response(response) => Err(Error::Status(path.to_owned(), response.status())),
            UpstreamResponse::Upgraded(..) => Err(Error::Unusable),
        }
    }

    /// What our own requests say as `Host`.
    pub fn host(&self) -> HeaderValue {
        self.target.host_header.clone()
    }

    /// Closes connections that have been idle for so long that Incus may be about to.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    async fn send_with_retry(
        &self,
        client: Option<SocketAddr>,
        mut request: Request<RequestBody>,
    ) -> Result<UpstreamResponse, Error> {
        // A pooled connection may have gone stale in the very moment of its use. Sending twice is right only where that
        // does no more than sending once (RFC 9110 §9.2.2) and there is no body of which a part may be gone.
        while let Some(connection) = self.pool.take(&self.target, client).await {
            self.target.counts().reused.add(1);
            let spare = is_repeatable(&request).then(|| clone_head(&request));
            match self.send_on_reused(client, connection, request).await {
                Ok(answer) => return Ok(answer),
                // What cannot be parsed is an answer all the same.
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

    /// An exchange on a connection that stood before. Nothing tells an Incus that hangs from one that waits for an
    /// operation to end, but that the one lets nobody in any more.
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

/// Whether there is one way to tell where an answer ends (RFC 9112 §6.3). hyper goes by the chunks, but leaves a length
/// beside them in the head: a client that goes by that would take a part for the whole.
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
