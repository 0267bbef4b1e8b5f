//! A question to a server on a unix socket of this machine: Incus's own, or a gateway's.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::worker;

/// More than the list of any server's images in use.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LocalError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("{0}")]
    Strange(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// A request that is ready to be sent.
pub fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    let host = HeaderValue::from_static("localhost");
    let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// Asks, on a runtime of its own, and waits no longer than that.
pub fn ask(
    socket: &Path,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), LocalError> {
    let runtime = worker::runtime().map_err(|error| LocalError::Strange(error.into()))?;
    runtime.block_on(async {
        timeout(patience, exchange(socket, request))
            .await
            .unwrap_or(Err(LocalError::Timeout(patience)))
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
            // The whole answer may have come with the end.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}
