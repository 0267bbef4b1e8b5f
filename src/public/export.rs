//! Image downloads: the only requests of anonymous clients that cause a request to Incus.

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri};

use edge::response::{Reply, ReplyBody};
use edge::telemetry::request_record::RequestRecord;
use edge::upstream::{Error, RequestBody, Upstream, UpstreamResponse};
use serde::Deserialize;

use super::route::image_not_found;
use crate::config::Visibility;
use crate::reply::HttpError;

/// Request headers that are forwarded to Incus.
const UP: [HeaderName; 3] = [IF_MODIFIED_SINCE, IF_RANGE, RANGE];
/// Response headers that are forwarded to the client. Incus's client needs `Content-Disposition`; `X-Incus-Type`
/// identifies `oci` images.
const DOWN: [HeaderName; 7] = [
    ACCEPT_RANGES,
    CONTENT_DISPOSITION,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    LAST_MODIFIED,
    HeaderName::from_static("x-incus-type"),
];

/// Maximum size of Incus's response about one image, in bytes.
pub(super) const IMAGE_SIZE: usize = 1 << 20;

/// Asks Incus whether the image is still public. Called if the catalogue is outdated: an image that was made private
/// must not be downloadable, however long Incus takes to list the others.
pub(super) async fn ask_whether_shown(
    upstream: &Upstream,
    fingerprint: &str,
    shown: Visibility,
) -> Result<(), HttpError> {
    if shown == Visibility::All {
        return Ok(());
    }
    let path = format!("/1.0/images/{fingerprint}");
    match upstream.fetch(&path, IMAGE_SIZE).await {
        Ok(answer) if is_public(&answer) => Ok(()),
        Ok(_) | Err(Error::Status(_, StatusCode::NOT_FOUND)) => Err(image_not_found(fingerprint)),
        Err(error) => Err(error.into()),
    }
}

/// Whether Incus's response says that the image is public. An unreadable response counts as private.
fn is_public(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct UpstreamResponse {
        metadata: Public,
    }
    #[derive(Deserialize)]
    struct Public {
        public: bool,
    }
    serde_json::from_slice::<UpstreamResponse>(answer).is_ok_and(|answer| answer.metadata.public)
}

/// Streams an image, given its full fingerprint from the catalogue.
pub(super) async fn export(
    record: &RequestRecord,
    upstream: &Upstream,
    fingerprint: &str,
    headers: &HeaderMap,
) -> Result<Reply, HttpError> {
    let uri = Uri::try_from(format!("/1.0/images/{fingerprint}/export")).map_err(|_| Error::Unusable)?;
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = uri;
    *request.headers_mut() = pick(&UP, headers);
    if !is_one_range(headers) {
        // RFC 9110 §14.2 allows ignoring `Range`; the response is then the full image.
        request.headers_mut().remove(RANGE);
    }
    request.headers_mut().insert(HOST, upstream.host());

    let UpstreamResponse::Response(response) = record
        .time_upstream(upstream.send(Some(record.client().peer.address), request))
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
        // The image was deleted after the catalogue was read.
        StatusCode::NOT_FOUND => Err(image_not_found(fingerprint)),
        status => Err(Error::Status("an export".to_owned(), status).into()),
    }
}

/// Whether the request asks for a single range in a form that Incus supports: `bytes=FIRST-LAST`, `bytes=FIRST-` or
/// `bytes=-COUNT`. Incus would process thousands of ranges in one request and send overlapping ones repeatedly.
fn is_one_range(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return false;
    };
    let range = range.to_str().ok().and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return false;
    };
    // Incus parses 64-bit integers without a sign.
    let number = |digits: &str| digits.parse::<i64>().ok().filter(|_| !digits.starts_with('+'));
    match (first, last) {
        ("", count) => number(count).is_some_and(|count| count > 0),
        (first, "") => number(first).is_some(),
        (first, last) => number(first).is_some_and(|first| number(last).is_some_and(|last| first <= last)),
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_valid_range_is_forwarded() {
        let is_sent = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(RANGE, HeaderValue::from_str(value).expect("valid header value"));
            }
            is_one_range(&headers)
        };
        let honoured = ["bytes=0-0", "bytes=7-", "bytes=-7", "bytes=100-9223372036854775807"];
        for range in honoured {
            assert!(is_sent(&[range]), "{range}");
        }
        let many = format!("bytes={}", vec!["0-0"; 14_000].join(","));
        let ignored = [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=-0",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=2-1",
            "bytes=1-2,",
            "bytes=,1-2",
            "bytes=1-2,4-5",
            "bytes=1-2, 1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=a-b",
            "bytes= 1-2",
            "bytes=1-2 ",
            "bytes=0-9223372036854775808",
            "Bytes=0-0",
            "items=0-0",
            "0-0",
            &many,
        ];
        for range in ignored {
            assert!(!is_sent(&[range]), "{range}");
        }
        assert!(!is_sent(&[]));
        assert!(!is_sent(&["bytes=0-0", "bytes=0-0"]), "two of them");
    }
}
