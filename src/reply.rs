//! Responses in Incus's JSON format, and the mapping from errors to status codes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use thiserror::Error;

use crate::admission::Rejection;
use crate::identity::AuthError;
use crate::upstream::{self, UpstreamBody};

/// Maximum size of a body frame, in bytes.
const PIECE: usize = 64 << 10;

/// A response to a client.
pub type Reply = Response<ReplyBody>;

/// The body of a [`Reply`].
pub enum ReplyBody {
    /// A complete body in memory.
    Whole(Option<Bytes>),
    /// A body that is generated while it is sent.
    Parts(Box<dyn Iterator<Item = Bytes>>),
    /// A body streamed from Incus. If Incus aborts it, polling fails, and the client's connection or stream is reset.
    Upstream(Box<UpstreamBody>),
}

/// Why a request fails.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HttpError {
    #[error("{0}")]
    Ambiguous(&'static str),
    #[error("too many filters and searches at once, try again later")]
    Busy,
    #[error("the image list is currently unavailable, try again later")]
    CatalogueAway,
    /// An error with Incus's status and message.
    #[error("{1}")]
    Incus(StatusCode, String),
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    AuthError(#[from] AuthError),
    #[error("Public access limited to image downloads only")]
    NotPublic,
    #[error("access from this address is denied")]
    Network,
    #[error("the request's target is longer than {0} bytes")]
    TargetTooLong(usize),
    #[error("too many downloads at once, try again later")]
    TooManyDownloads,
    #[error("too many requests from this address, try again later")]
    TooManyRequests(Duration),
    #[error("filters and searches from this address take too much CPU time, try again later")]
    TooMuchCpu(Duration),
    /// The details are logged. They are not disclosed to clients.
    #[error("Incus is currently unavailable, try again later")]
    Upstream(upstream::Error),
}

impl HttpError {
    /// Creates an error for an invalid request.
    pub fn bad_request(problem: &str) -> Self {
        Self::Incus(StatusCode::BAD_REQUEST, problem.to_owned())
    }

    /// HTTP status of the error.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Ambiguous(_) => StatusCode::BAD_REQUEST,
            Self::Busy | Self::CatalogueAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::Incus(status, _) => *status,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Network | Self::AuthError(_) | Self::NotPublic => StatusCode::FORBIDDEN,
            Self::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::TooManyDownloads | Self::TooManyRequests(_) | Self::TooMuchCpu(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl From<Rejection> for HttpError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Network => Self::Network,
            Rejection::TooManyRequests(wait) => Self::TooManyRequests(wait),
            Rejection::TooMuchCpu(wait) => Self::TooMuchCpu(wait),
        }
    }
}

impl From<upstream::Error> for HttpError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::Client(_) => Self::bad_request("the request is incomplete"),
            error => Self::Upstream(error),
        }
    }
}

impl From<Vec<u8>> for ReplyBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl From<HttpError> for Reply {
    fn from(error: HttpError) -> Self {
        let status = error.status();
        let mut reply = json_reply(
            status,
            to_json(&Envelope {
                kind: "error",
                status: "",
                status_code: 0,
                operation: "",
                error_code: status.as_u16(),
                error: &error.to_string(),
                metadata: (),
            })
            .into(),
        );
        match error {
            HttpError::MethodNotAllowed => drop(reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"))),
            HttpError::Busy | HttpError::TooManyDownloads => {
                reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
            }
            // `Retry-After` is in whole seconds (RFC 9110 §10.2.3). Round up, so that the client does not retry too
            // early.
            HttpError::TooManyRequests(wait) | HttpError::TooMuchCpu(wait) => {
                let seconds = HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64);
                reply.headers_mut().insert(RETRY_AFTER, seconds);
            }
            _ => {}
        }
        reply
    }
}

/// Serializes a successful response, which Incus calls `sync`.
///
/// # Panics
///
/// Panics if `metadata` does not serialize to JSON.
pub fn sync(metadata: &impl Serialize) -> Vec<u8> {
    to_json(&Envelope {
        kind: "sync",
        status: "Success",
        status_code: 200,
        operation: "",
        error_code: 0,
        error: "",
        metadata,
    })
}

/// The envelope of every Incus response. Fields are in Incus's order.
#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    status_code: u16,
    operation: &'static str,
    error_code: u16,
    error: &'a str,
    metadata: T,
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(content).expect("strings serialize to JSON");
    text.push(b'\n');
    text
}

/// Creates a response with a JSON body.
pub fn json_reply(status: StatusCode, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, json);
    reply
}

/// Removes the body for a HEAD request and keeps its length (RFC 9110 §9.3.2). hyper does that for HTTP/1.1 only.
pub fn leave_out_body(reply: &mut Reply) {
    if let ReplyBody::Whole(Some(bytes)) = reply.body() {
        let length = HeaderValue::from(bytes.len());
        reply.headers_mut().insert(CONTENT_LENGTH, length);
        *reply.body_mut() = ReplyBody::Whole(None);
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = upstream::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let Some(mut piece) = bytes.take() else {
                    return Poll::Ready(None);
                };
                // The request record is complete once it sees the last byte. Splitting the body keeps it from seeing
                // that byte too early.
                if piece.len() > PIECE {
                    *bytes = Some(piece.split_off(PIECE));
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Parts(parts) => Poll::Ready(parts.next().map(|part| Ok(Frame::data(part)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Parts(_) => false,
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Parts(_) => SizeHint::default(),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}
