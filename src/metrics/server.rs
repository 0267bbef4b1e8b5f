//! The listeners of `[metrics]` and `[status]`: plain HTTP on the main thread, where it is in no client's way.
//!
//! The first one, TCP, is for a scraper and a probe: whoever reaches it is [`PublicHandler`], who never learns the names of admins
//! from more than the figures. The second one, a unix socket, asks the kernel who is there, and answers the gateway's owner
//! alone (`status::owner`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

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
use crate::reply::ReplyBody;

/// So many may be connected at a time. Whoever comes then takes the place of another.
const CONNECTIONS: usize = 32;
/// Who says nothing for so long has nothing to ask.
const SILENCE: Duration = Duration::from_secs(2);
/// The time for one question and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least that hyper takes, and more than such a question has.
const HEAD: usize = 8 << 10;
/// After an error that is ours, so that the loop is not a busy one.
const PAUSE: Duration = Duration::from_millis(500);

const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where askers come in.
pub trait Acceptor {
    /// What they talk over.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next one; none if who came is not let in.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>>;
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<TcpStream>> {
        Ok(Some(self.accept().await?.0))
    }
}

/// Root, and the user that the gateway runs as. In a namespace of users all others look like one, who is let in nowhere:
/// the socket's own permissions keep them out before.
impl Acceptor for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred()?.uid();
        let is_owner = peer == 0 || peer == rustix::process::geteuid().as_raw();
        if !is_owner {
            tracing::warn!(uid = peer, "status.socket: refused to answer another user");
        }
        Ok(is_owner.then_some(stream))
    }
}

/// Who answers.
pub trait Handler: 'static {
    /// One request for GET or HEAD of this path; none if nothing is there.
    fn handle(&self, path: &str) -> impl Future<Output = Option<Response<ReplyBody>>>;

    /// What is there.
    const PATHS: &'static str;
}

/// For who reaches a port.
#[derive(Debug)]
pub struct PublicHandler(pub Rc<Exporter>);

impl Handler for PublicHandler {
    const PATHS: &'static str = "here are /metrics, /healthz and /readyz";

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

/// The connections of one listener, the oldest first. Nobody waits for one that says nothing, or does not take its answer: a
/// probe is answered however many of those there are.
#[derive(Debug, Default)]
struct Connections(RefCell<VecDeque<Rc<Connection>>>);

#[derive(Debug, Default)]
struct Connection {
    has_asked: Cell<bool>,
    displaced: Notify,
}

impl Connections {
    /// One more. When there are too many, the oldest one that has not asked anything yet goes, or else the oldest one.
    fn enter(&self) -> Rc<Connection> {
        let mut all = self.0.borrow_mut();
        if all.len() >= CONNECTIONS {
            let silent = all.iter().position(|connection| !connection.has_asked.get());
            if let Some(displaced) = all.remove(silent.unwrap_or(0)) {
                displaced.displaced.notify_one();
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

/// Answers for as long as the process runs, in a drain too.
pub async fn serve<D: Acceptor, A: Handler>(door: D, answers: Rc<A>) {
    let connections = Rc::new(Connections::default());
    loop {
        let stream = match door.accept().await {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "metrics.listen or status.socket cannot accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (answers, connections) = (Rc::clone(&answers), Rc::clone(&connections));
        let entered = connections.enter();
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| {
                entered.has_asked.set(true);
                let answers = Rc::clone(&answers);
                async move { Ok::<_, Infallible>(handle(&*answers, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .keep_alive(false)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                biased;
                () = entered.displaced.notified() => {}
                // How it ends is of no interest.
                _ = timeout(PATIENCE, connection) => {}
            }
            connections.leave(&entered);
        });
        // What it asks is heard before the next one may displace it.
        yield_now().await;
    }
}

async fn handle<A: Handler>(answers: &A, request: &Request<Incoming>) -> Response<ReplyBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET".to_owned());
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let answer = answers.handle(request.uri().path()).await;
    answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, A::PATHS.to_owned()))
}

fn judged(health: Result<(), Problem>) -> Response<ReplyBody> {
    match health {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem.to_string()),
    }
}

/// A line.
pub fn text(status: StatusCode, line: String) -> Response<ReplyBody> {
    reply(status, TEXT, line + "\n")
}

/// The whole of an answer.
pub fn reply(status: StatusCode, kind: HeaderValue, body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::from(body.into_bytes()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}
