//! The bytes of a published image: the one thing that comes from Incus per request.

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri};

use super::route::image_not_found;
use crate::reply::{Refusal, Reply, ReplyBody};
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

/// Streams an image whose full fingerprint stands in the catalogue.
pub(super) async fn export(upstream: &Upstream, fingerprint: &str, headers: &HeaderMap) -> Result<Reply, Refusal> {
    let uri = Uri::try_from(format!("/1.0/images/{fingerprint}/export")).map_err(|_| Error::Unusable)?;
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = uri;
    *request.headers_mut() = pick(&UP, headers);
    request.headers_mut().insert(HOST, upstream.host());

    let Answer::Response(response) = upstream.send(request).await? else {
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
        status => Err(Error::Status("an export", status).into()),
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
