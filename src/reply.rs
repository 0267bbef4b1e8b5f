//! Replies in Incus's own JSON form, and the one map from an error to a status.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use thiserror::Error;

use crate::identity::NotAnAdmin;
use crate::upstream::{self, UpstreamBody};

/// What a client gets.
pub type Reply = Response<ReplyBody>;

/// The body of a [`Reply`].
#[derive(Debug)]
pub enum ReplyBody {
    /// Made here.
    Whole(Option<Bytes>),
    /// Handed on from Incus as it comes. When Incus breaks off, this fails, and with it the client's connection or stream.
    Upstream(Box<UpstreamBody>),
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("the list of images cannot be had from Incus at the moment, try again later")]
    CatalogueAway,
    /// In Incus's own words.
    #[error("{1}")]
    Incus(StatusCode, String),
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    NotAnAdmin(#[from] NotAnAdmin),
    #[error("Public access limited to image downloads only")]
    NotPublic,
    /// What is wrong behind us is for our log, not for strangers.
    #[error("Incus cannot be reached at the moment, try again later")]
    Upstream(#[from] upstream::Error),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::CatalogueAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::Incus(status, _) => *status,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnAdmin(_) | Self::NotPublic => StatusCode::FORBIDDEN,
            Self::Upstream(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        let mut reply = json_reply(
            status,
            to_json(&Envelope {
                kind: "error",
                status: "",
                status_code: 0,
                operation: "",
                error_code: status.as_u16(),
                error: &refusal.to_string(),
                metadata: (),
            }),
        );
        if matches!(refusal, Refusal::MethodNotAllowed) {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        reply
    }
}

/// A success, in the form that Incus calls `sync`.
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

/// What Incus wraps every answer in, its fields in Incus's order.
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
    let mut text = serde_json::to_vec(content).expect("names and texts make JSON");
    text.push(b'\n');
    text
}

/// A reply that says it is JSON.
pub fn json_reply(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::Whole(Some(text.into())));
    *reply.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, json);
    reply
}

/// Leaves what an answer to HEAD has (RFC 9110 §9.3.2). hyper does so for HTTP/1.1 alone.
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
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}
