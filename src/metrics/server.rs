//! The listeners of `[metrics]` and `[status]`: plain HTTP on the main thread, where they do not slow down the workers.
//!
//! The TCP listener serves scrapers and health checks through [`PublicHandler`], which is open to every client that can
//! connect. It discloses administrators' names only as labels. The Unix socket checks the peer's credentials and serves
//! only the gateway's owner (`status::owner`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use edge::response::ReplyBody;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::exposition::Exporter;
use super::health::Problem;

/// Maximum number of open connections. A further connection replaces another one: so many that a health check has sent its
/// request before thousands of silent connections per second would replace it.
const CONNECTIONS: usize = 128;
/// Timeout for the request header.
const SILENCE: Duration = Duration::from_secs(2);
/// Timeout for a request and its response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum size of a request header, in bytes: the smallest that hyper allows, and enough for a scraper.
const HEAD: usize = 8 << 10;
/// Delay after an error on accept, to avoid a busy loop.
const PAUSE: Duration = Duration::from_millis(500);

const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A listener for monitoring clients.
pub trait Acceptor {
    /// Type of an accepted connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Accepts a connection. Returns `None` if the client is not authorized.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>>;
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<TcpStream>> {
        Ok(Some(self.accept().await?.0))
    }
}

/// Accepts connections from root and from the gateway's own user. In a user namespace, all other users map to the same
/// ID, which is rejected too; the socket's permissions already keep them out.
impl Acceptor for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred()?.uid();
        let is_owner = peer == 0 || peer == rustix::process::geteuid().as_raw();
        if !is_owner {
            tracing::warn!(uid = peer, "status.socket: rejected a client of another user");
        }
        Ok(is_owner.then_some(stream))
    }
}

/// Handles the requests of a listener.
pub trait Handler: 'static {
    /// Handles a GET or HEAD request. Returns `None` if the path does not exist.
    fn handle(&self, path: &str) -> impl Future<Output = Option<Response<ReplyBody>>>;

    /// Message that lists the paths.
    const PATHS: &'static str;
}

/// Handler for every client that can connect.
#[derive(Debug)]
pub struct PublicHandler(pub Rc<Exporter>);

impl Handler for PublicHandler {
    const PATHS: &'static str = "not found; available paths: /metrics, /healthz, /readyz";

    async fn handle(&self, path: &str) -> Option<Response<ReplyBody>> {
        let Self(exporter) = self;
        Some(match path {
            "/healthz" => judged(exporter.health().alive().await),
            "/metrics" => match exporter.text().await {
                Ok(figures) => reply(StatusCode::OK, OPENMETRICS, figures),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            "/readyz" => judged(exporter.health().ready().await),
            _ => return None,
        })
    }
}

/// The connections of one listener, oldest first. A health check is served however many connections are idle or do not
/// read their response.
#[derive(Debug, Default)]
struct Connections(RefCell<VecDeque<Rc<Connection>>>);

#[derive(Debug, Default)]
struct Connection {
    has_request: Cell<bool>,
    evicted: Notify,
}

impl Connections {
    /// Adds a connection. If there are too many, closes the oldest one that has not sent a request, or else the oldest
    /// one.
    fn enter(&self) -> Rc<Connection> {
        let mut all = self.0.borrow_mut();
        if all.len() >= CONNECTIONS {
            let silent = all.iter().position(|connection| !connection.has_request.get());
            if let Some(evicted) = all.remove(silent.unwrap_or(0)) {
                evicted.evicted.notify_one();
            }
        }
        let connection = Rc::new(Connection::default());
        all.push_back(Rc::clone(&connection));
        connection
    }

    fn leave(&self, connection: &Rc<Connection>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(connection, other));
    }
}

/// Serves a listener until the process exits, including while it drains.
pub async fn serve<D: Acceptor, A: Handler>(acceptor: D, handler: Rc<A>) {
    let connections = Rc::new(Connections::default());
    loop {
        let stream = match acceptor.accept().await {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection on metrics.listen or status.socket");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (handler, connections) = (Rc::clone(&handler), Rc::clone(&connections));
        let entered = connections.enter();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                entered.has_request.set(true);
                let handler = Rc::clone(&handler);
                async move { Ok::<_, Infallible>(handle(&*handler, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .keep_alive(false)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                biased;
                () = entered.evicted.notified() => {}
                // The outcome does not matter.
                _ = timeout(PATIENCE, connection) => {}
            }
            connections.leave(&entered);
        });
        // Lets the connection send its request before the next one can evict it.
        yield_now().await;
    }
}

async fn handle<A: Handler>(handler: &A, request: &Request<Incoming>) -> Response<ReplyBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed; use GET or HEAD".to_owned(),
        );
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let response = handler.handle(request.uri().path()).await;
    response.unwrap_or_else(|| text(StatusCode::NOT_FOUND, A::PATHS.to_owned()))
}

fn judged(health: Result<(), Problem>) -> Response<ReplyBody> {
    match health {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem.to_string()),
    }
}

/// Creates a plain-text response with one line.
pub fn text(status: StatusCode, line: String) -> Response<ReplyBody> {
    reply(status, TEXT, line + "\n")
}

/// Creates a response.
pub fn reply(status: StatusCode, kind: HeaderValue, body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::from(body.into_bytes()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}
