//! Responses in Incus's JSON format, and the mapping from errors to status codes.

use edge::admission::Rejection;
use edge::response::{Reply, ReplyBody};
use edge::upstream;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use thiserror::Error;

use crate::identity::AuthError;

/// Why a request fails.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HttpError {
    #[error("too many requests of this kind at once, try again later")]
    Busy,
    #[error("the image list is currently unavailable, try again later")]
    CatalogueUnavailable,
    /// An error with Incus's status and message.
    #[error("{1}")]
    Incus(StatusCode, String),
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    AuthError(#[from] AuthError),
    #[error("Public access limited to image downloads only")]
    NotPublic,
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("the request's target is longer than {0} bytes")]
    TargetTooLong(usize),
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
            Self::Busy | Self::CatalogueUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Incus(status, _) => *status,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::AuthError(_) | Self::NotPublic => StatusCode::FORBIDDEN,
            Self::TargetTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::Rejected(why) => why.status(),
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Seconds after which the request may succeed, if that is known.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy => Some(1),
            Self::Rejected(why) => why.retry_after(),
            _ => None,
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
            error => {
                if let Some(seconds) = error.retry_after() {
                    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                }
            }
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
