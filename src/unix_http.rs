//! HTTP client for a server on a local Unix socket: Incus, or a running gateway.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edge::worker;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Maximum size of a response body, in bytes. Larger than the image list of any server in use.
const MAX_ANSWER: usize = 64 << 20;

/// The reason why a request failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LocalError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("{0}")]
    Strange(Box<dyn std::error::Error + Send + Sync>),
    #[error("no response within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// Builds a request with the `Host` header that HTTP/1.1 requires.
pub fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    let host = HeaderValue::from_static("localhost");
    let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// Sends the request on a runtime of its own, and waits for the response for at most `time_limit`.
pub fn ask(
    socket: &Path,
    request: Request<Full<Bytes>>,
    time_limit: Duration,
) -> Result<(StatusCode, Bytes), LocalError> {
    let runtime = worker::runtime().map_err(|error| LocalError::Strange(error.into()))?;
    runtime.block_on(async {
        timeout(time_limit, exchange(socket, request))
            .await
            .unwrap_or(Err(LocalError::Timeout(time_limit)))
    })
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), LocalError> {
    let stream = UnixStream::connect(socket).await.map_err(LocalError::Connect)?;
    send(stream, request).await.map_err(LocalError::Strange)
}

async fn send(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The connection may end together with a complete response.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}
