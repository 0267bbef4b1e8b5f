//! The listener of `[metrics]`: plain HTTP for a scraper and a probe, on the main thread, where it is in no client's way.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::export::Exporter;
use super::health::Problem;
use crate::reply::ReplyBody;

/// So many may ask at a time; others wait in the kernel.
const CONNECTIONS: usize = 16;
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

/// Answers for as long as the process runs, in a drain too.
pub async fn serve(listener: TcpListener, exporter: Rc<Exporter>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::debug!(%error, "metrics.listen cannot accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let exporter = Rc::clone(&exporter);
        tokio::task::spawn_local(async move {
            let answer = service_fn(move |request| {
                let exporter = Rc::clone(&exporter);
                async move { Ok::<_, Infallible>(answer(&exporter, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .keep_alive(false)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(tcp), answer);
            // How it ends is of no interest.
            let _ = timeout(PATIENCE, connection).await;
            drop(place);
        });
    }
}

async fn answer(exporter: &Exporter, request: &Request<Incoming>) -> Response<ReplyBody> {
    let path = request.uri().path();
    let is_known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    if is_known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "ask with GET".to_owned());
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match path {
        "/healthz" => judged(exporter.health().alive().await),
        "/metrics" => match exporter.text().await {
            Ok(figures) => reply(StatusCode::OK, OPENMETRICS, figures),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        "/readyz" => judged(exporter.health().ready().await),
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /metrics, /healthz and /readyz".to_owned(),
        ),
    }
}

fn judged(health: Result<(), Problem>) -> Response<ReplyBody> {
    match health {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem.to_string()),
    }
}

fn text(status: StatusCode, line: String) -> Response<ReplyBody> {
    reply(status, TEXT, line + "\n")
}

fn reply(status: StatusCode, kind: HeaderValue, body: String) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::from(body.into_bytes()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}
