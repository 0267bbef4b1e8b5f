//! Image downloads from Incus: the only requests of anonymous clients that cause a request to it.

use std::net::SocketAddr;

use edge::conditional::single_range;
use edge::response::{Reply, ReplyBody};
use edge::telemetry::request_record::RequestRecord;
use edge::upstream::{Error, RequestBody, Upstream, UpstreamBody, UpstreamResponse};
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use store::ExportHead;

use super::catalogue::Catalogue;
use super::image::Image;
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
    INCUS_TYPE,
];
/// Names the type of an image whose fingerprint is not the hash of its files.
const INCUS_TYPE: HeaderName = HeaderName::from_static("x-incus-type");

/// Maximum size of Incus's response about one image, in bytes.
const IMAGE_SIZE: usize = 1 << 20;

/// Makes sure that an image of the catalogue may be downloaded, although the catalogue may be outdated.
pub(crate) async fn check_still_visible(
    catalogue: &Catalogue,
    upstream: &Upstream,
    image: &Image,
) -> Result<(), HttpError> {
    // While Incus is unavailable, the catalogue decides.
    if catalogue.is_fresh() || catalogue.freshness().is_failing {
        return Ok(());
    }
    ask_whether_visible(upstream, &image.fingerprint, catalogue.images()).await
}

/// Asks Incus whether the image is still public. Called if the catalogue is outdated: an image that was made private
/// must not be downloadable, however long Incus takes to list the others.
async fn ask_whether_visible(upstream: &Upstream, fingerprint: &str, images: Visibility) -> Result<(), HttpError> {
    if images == Visibility::All {
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

/// Incus's response to a request for an image.
#[derive(Debug)]
pub(crate) struct ExportedImage {
    pub(crate) head: Parts,
    pub(crate) body: Box<UpstreamBody>,
    /// Whether the fingerprint is not the hash of the files.
    pub(crate) is_unverifiable: bool,
}

impl ExportedImage {
    /// The header fields that the store needs.
    pub(crate) fn export_head(&self) -> ExportHead<'_> {
        let text = |name| {
            self.head
                .headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        ExportHead {
            content_type: text(CONTENT_TYPE).unwrap_or_default(),
            content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            content_disposition: text(CONTENT_DISPOSITION),
        }
    }
}

/// Asks Incus for a whole image, given its full fingerprint, on behalf of nobody in particular.
pub(crate) async fn request(upstream: &Upstream, fingerprint: &str) -> Result<ExportedImage, Error> {
    send(upstream, None, fingerprint, HeaderMap::new()).await
}

async fn send(
    upstream: &Upstream,
    client: Option<SocketAddr>,
    fingerprint: &str,
    headers: HeaderMap,
) -> Result<ExportedImage, Error> {
    let uri = Uri::try_from(format!("/1.0/images/{fingerprint}/export")).map_err(|_| Error::Unusable)?;
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request.headers_mut().insert(HOST, upstream.host());
    let UpstreamResponse::Response(response) = upstream.send(client, request).await? else {
        return Err(Error::Unusable);
    };
    let (head, body) = response.into_parts();
    Ok(ExportedImage {
        is_unverifiable: head.headers.get(INCUS_TYPE).is_some_and(|kind| kind == "oci"),
        head,
        body,
    })
}

/// Streams an image, given its full fingerprint from the catalogue.
pub(super) async fn export(
    record: &RequestRecord,
    upstream: &Upstream,
    fingerprint: &str,
    headers: &HeaderMap,
) -> Result<Reply, HttpError> {
    let mut up = pick(&UP, headers);
    if single_range(headers).is_none() {
        // Incus would process thousands of ranges in one request and send overlapping ones repeatedly. Without a range, the
        // response is the full image.
        up.remove(RANGE);
    }
    let sent = send(upstream, Some(record.client().peer.address), fingerprint, up);
    let ExportedImage { head, body, .. } = record.time_upstream(sent).await?;
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

fn pick(names: &[HeaderName], from: &HeaderMap) -> HeaderMap {
    let all = |name| {
        from.get_all(name)
            .iter()
            .map(move |value| (HeaderName::clone(name), value.clone()))
    };
    names.iter().flat_map(all).collect()
}
