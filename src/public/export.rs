//! The bytes of a published image: the one thing that comes from Incus per request.

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri};

use serde::Deserialize;

use super::route::image_not_found;
use crate::config::Images;
use crate::reply::{Refusal, Reply, ReplyBody};
use crate::telemetry::exchange::Exchange;
use crate::upstream::{Answer, Error, RequestBody, Upstream};

/// What goes up of a stranger's headers.
const UP: [HeaderName; 3] = [IF_MODIFIED_SINCE, IF_RANGE, RANGE];
/// What comes down of Incus's. Its client needs `Content-Disposition`; `X-Incus-Type` tells `oci` images apart.
const DOWN: [HeaderName; 7] = [
    ACCEPT_RANGES,
    CONTENT_DISPOSITION,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    LAST_MODIFIED,
    HeaderName::from_static("x-incus-type"),
];

/// What Incus says of one image.
const IMAGE_SIZE: usize = 1 << 20;

/// Asks Incus itself, where the catalogue is older than it should be: bytes of an image that has become private meanwhile
/// must not go out, however long Incus takes to list the others.
pub(super) async fn ask_whether_shown(upstream: &Upstream, fingerprint: &str, shown: Images) -> Result<(), Refusal> {
    if shown == Images::All {
        return Ok(());
    }
    let path = format!("/1.0/images/{fingerprint}");
    match upstream.fetch(&path, IMAGE_SIZE).await {
        Ok(answer) if is_public(&answer) => Ok(()),
        Ok(_) | Err(Error::Status(_, StatusCode::NOT_FOUND)) => Err(image_not_found(fingerprint)),
        Err(error) => Err(error.into()),
    }
}

/// What cannot be read is not public.
fn is_public(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        metadata: Public,
    }
    #[derive(Deserialize)]
    struct Public {
        public: bool,
    }
    serde_json::from_slice::<Answer>(answer).is_ok_and(|answer| answer.metadata.public)
}

/// Streams an image whose full fingerprint stands in the catalogue.
pub(super) async fn export(
    exchange: &Exchange,
    upstream: &Upstream,
    fingerprint: &str,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    let uri = Uri::try_from(format!("/1.0/images/{fingerprint}/export")).map_err(|_| Error::Unusable)?;
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = uri;
    *request.headers_mut() = pick(&UP, headers);
    request.headers_mut().insert(HOST, upstream.host());

    let Answer::Response(response) = exchange
        .ask_incus(upstream.send(Some(exchange.client().peer.address), request))
        .await?
    else {
        return Err(Error::Unusable.into());
    };
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE => {
            let mut reply = Response::new(ReplyBody::Upstream(body));
            *reply.status_mut() = head.status;
            *reply.headers_mut() = pick(&DOWN, &head.headers);
            Ok(reply)
        }
        // Deleted since the catalogue was read.
        StatusCode::NOT_FOUND => Err(image_not_found(fingerprint)),
        status => Err(Error::Status("an export".to_owned(), status).into()),
    }
}

fn pick(names: &[HeaderName], from: &HeaderMap) -> HeaderMap {
    let all = |name| {
        from.get_all(name)
            .iter()
            .map(move |value| (HeaderName::clone(name), value.clone()))
    };
    names.iter().flat_map(all).collect()
}
