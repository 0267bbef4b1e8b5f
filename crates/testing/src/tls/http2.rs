//! A blocking HTTP/2 client with the same TLS settings, based on hyper.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{PATIENCE, TlsClient};

/// The body of a request.
pub type Body = BoxBody<Bytes, io::Error>;

/// Creates a complete body.
pub fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

/// Creates a body whose beginning is sent, and that is reset when `now` is triggered.
pub fn torn(beginning: &'static str, now: oneshot::Receiver<()>) -> Body {
    let beginning = Some(Bytes::from(beginning));
    Torn { beginning, now }.boxed()
}

/// Creates an endless body of zeros, which counts the bytes that have been sent.
pub fn endless(taken: &Arc<AtomicU64>) -> Body {
    Endless(Arc::clone(taken)).boxed()
}

/// A connection.
#[derive(Debug)]
pub struct Http2 {
    sender: SendRequest<Body>,
    /// Also drives the connection between calls.
    runtime: Runtime,
}

/// A response, with the received part of its body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// `Err` if the stream was reset, or the connection closed, before the end of the body.
    pub whole: Result<(), String>,
}

impl Answer {
    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {:?}", self.body))
    }
}

/// A response whose body is read incrementally.
#[derive(Debug)]
pub struct Open<'a> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    runtime: &'a Runtime,
}

impl TlsClient {
    /// Connects with HTTP/2, whatever other protocols the client would offer.
    pub fn connect_http2(&self, address: SocketAddr) -> io::Result<Http2> {
        Http2::open(self.clone().alpn(&["h2"]), address)
    }
}

impl Http2 {
    fn open(client: TlsClient, address: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let sender = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::from(address.ip());
            let tls = TlsConnector::from(Arc::new(client.config)).connect(name, tcp).await?;
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(1 << 20)
                .handshake(TokioIo::new(tls))
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            Ok::<_, io::Error>(sender)
        })?;
        Ok(Self { sender, runtime })
    }

    /// Sends a `GET` request, and reads the complete response.
    pub fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.ask(self.request("GET", path))
    }

    /// Creates a request with the same authority as [`super::Raw::get`].
    pub fn request(&self, method: &str, path: &str) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("https://gate.test:8555{path}"))
            .body(whole(""))
            .expect("a method and a path make a request")
    }

    /// Sends a request, and reads the complete response.
    pub fn ask(&mut self, request: Request<Body>) -> Result<Answer, String> {
        let answer = self.sender.send_request(request);
        self.finish(answer)
    }

    fn finish(&self, answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Result<Answer, String> {
        let mut open = self.head_of(answer)?;
        let mut body = Vec::new();
        let whole = loop {
            match open.read() {
                Ok(Some(data)) => body.extend(data),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        Ok(Answer {
            status: open.status,
            headers: open.headers,
            body: body.into(),
            whole,
        })
    }

    /// Sends `GET` requests for all paths concurrently, and reads the complete responses.
    pub fn get_all(&mut self, paths: &[String]) -> Vec<Result<Answer, String>> {
        let requests: Vec<_> = paths.iter().map(|path| self.request("GET", path)).collect();
        let answers: Vec<_> = requests
            .into_iter()
            .map(|request| self.sender.send_request(request))
            .collect();
        answers.into_iter().map(|answer| self.finish(answer)).collect()
    }

    /// Sends a request, and reads the head of the response.
    pub fn start(&mut self, request: Request<Body>) -> Result<Open<'_>, String> {
        let answer = self.sender.send_request(request);
        self.head_of(answer)
    }

    fn head_of(&self, answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Result<Open<'_>, String> {
        let answer = self
            .runtime
            .block_on(async { timeout(PATIENCE, answer).await })
            .map_err(|_| "silence".to_owned())?
            .map_err(|error| format!("{error:?}"))?;
        let (head, body) = answer.into_parts();
        Ok(Open {
            status: head.status,
            headers: head.headers,
            body,
            runtime: &self.runtime,
        })
    }

    /// Waits until the peer closes the connection. Returns `false` after the timeout.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            let closed = async {
                while sender.ready().await.is_ok() && !sender.is_closed() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(patience, closed).await.is_ok()
        })
    }
}

impl Open<'_> {
    /// Reads the next non-empty part of the body; `None` at its end.
    pub fn read(&mut self) -> Result<Option<Bytes>, String> {
        let body = &mut self.body;
        loop {
            let frame = self
                .runtime
                .block_on(async { timeout(PATIENCE, body.frame()).await })
                .map_err(|_| "silence".to_owned())?;
            match frame {
                None => return Ok(None),
                // Trailers are ignored.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                Some(Err(error)) => return Err(format!("{error:?}")),
            }
        }
    }
}

struct Endless(Arc<AtomicU64>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        self.0.fetch_add(ZEROS.len() as u64, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS)))))
    }
}

struct Torn {
    beginning: Option<Bytes>,
    now: oneshot::Receiver<()>,
}

impl hyper::body::Body for Torn {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.beginning.take() {
            Some(beginning) => Poll::Ready(Some(Ok(Frame::data(beginning)))),
            None => Pin::new(&mut self.now)
                .poll(cx)
                .map(|_| Some(Err(io::ErrorKind::Other.into()))),
        }
    }
}
