//! JSON responses that are serialized and compressed once, with `ETag` support.

use std::io::Write;
use std::sync::OnceLock;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use edge::conditional::{elements, matches_weakly};
use edge::response::{Reply, ReplyBody};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderName, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::reply::{json_reply, sync};

/// Minimum size for compression, in bytes. A smaller response fits into one packet anyway.
const WORTH_COMPRESSING: usize = 1_400;

/// A serialized JSON response with its `ETag`, and optionally a compressed form.
#[derive(Debug)]
pub struct CachedJson {
    plain: Bytes,
    gzip: OnceLock<Option<Bytes>>,
    etag: HeaderValue,
}

/// Serialized JSON that lists are made of, with the digest that identifies it.
#[derive(Debug)]
pub struct Part {
    json: Box<[u8]>,
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl Part {
    /// Serializes one element of a list.
    ///
    /// # Panics
    ///
    /// Panics if `element` does not serialize to JSON.
    pub fn new(element: &impl Serialize) -> Self {
        let json = serde_json::to_vec(element).expect("strings and numbers serialize to JSON");
        let mut part = Self {
            digest: [0; SHA256_OUTPUT_LEN],
            json: json.into_boxed_slice(),
        };
        part.digest.copy_from_slice(digest(&SHA256, &part.json).as_ref());
        part
    }

    /// Size of the JSON in bytes.
    pub fn size(&self) -> usize {
        self.json.len()
    }
}

impl CachedJson {
    /// Serializes a response without compression. Suits a response for a single client.
    pub fn plain(metadata: &impl Serialize) -> Self {
        Self::raw(sync(metadata))
    }

    /// Takes a document as it is.
    pub fn raw(document: Vec<u8>) -> Self {
        let plain = Bytes::from(document);
        Self {
            etag: etag(digest(&SHA256, &plain).as_ref()),
            gzip: OnceLock::new(),
            plain,
        }
    }

    /// Concatenates the elements of a list. The tag is made of their digests: no byte of the list is looked at but to copy
    /// it.
    pub fn concatenated<'a>(parts: impl Iterator<Item = &'a Part> + Clone) -> Self {
        let empty = sync(&[(); 0]);
        let middle = empty.iter().rposition(|byte| *byte == b']').unwrap_or_default();
        let size: usize = parts.clone().map(|part| part.size() + 1).sum();
        let mut plain = Vec::with_capacity(empty.len() + size);
        plain.extend_from_slice(&empty[..middle]);
        let mut digests = digest::Context::new(&SHA256);
        for (number, part) in parts.enumerate() {
            if number > 0 {
                plain.push(b',');
            }
            plain.extend_from_slice(&part.json);
            digests.update(&part.digest);
        }
        plain.extend_from_slice(&empty[middle..]);
        Self {
            plain: plain.into(),
            gzip: OnceLock::new(),
            etag: etag(digests.finish().as_ref()),
        }
    }

    /// Adds the compressed form, unless it is there. It takes ten times as long as the serialization, and suits a response
    /// for many clients.
    pub fn compress(&self) {
        self.gzip.get_or_init(|| compress(&self.plain));
    }

    /// Adds the compressed form.
    pub fn compressed(self) -> Self {
        self.compress();
        self
    }

    /// Whether [`Self::compress`] has been called.
    pub fn is_compressed(&self) -> bool {
        self.gzip.get().is_some()
    }

    /// Size of the uncompressed body in bytes.
    pub fn size(&self) -> usize {
        self.plain.len()
    }

    /// Whether both have the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        self.etag == other.etag
    }

    /// Returns the response in the encoding that the request accepts, or 304 if the client has the current version.
    pub fn reply(&self, request: &HeaderMap) -> Reply {
        let gzip = self.gzip.get().and_then(Option::as_ref);
        let mut reply = match (gzip, accepts(request, ACCEPT_ENCODING, "gzip")) {
            _ if self.etag.to_str().is_ok_and(|etag| matches_weakly(request, etag)) => {
                let mut unchanged = Response::new(ReplyBody::Whole(None));
                *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
                unchanged
            }
            (Some(gzip), true) => {
                let mut reply = json_reply(StatusCode::OK, ReplyBody::Whole(Some(gzip.clone())));
                let gzip = HeaderValue::from_static("gzip");
                reply.headers_mut().insert(CONTENT_ENCODING, gzip);
                reply
            }
            _ => json_reply(StatusCode::OK, ReplyBody::Whole(Some(self.plain.clone()))),
        };
        reply.headers_mut().insert(ETAG, self.etag.clone());
        if gzip.is_some() {
            let vary = HeaderValue::from_static("accept-encoding");
            reply.headers_mut().insert(VARY, vary);
        }
        reply
    }
}

/// The tag is weak because it also identifies the compressed form (RFC 9110 §8.8.1).
fn etag(digest: &[u8]) -> HeaderValue {
    let digest = HEXLOWER.encode(&digest[..16]);
    HeaderValue::from_str(&format!("W/\"{digest}\"")).expect("hexadecimal digits are a valid header value")
}

fn compress(plain: &[u8]) -> Option<Bytes> {
    if plain.len() < WORTH_COMPRESSING {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail. If it did, the uncompressed form would be sent.
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Whether an `Accept*` header lists this value with a nonzero weight (RFC 9110 §12.4.2). Wildcards do not count.
pub(super) fn accepts(request: &HeaderMap, header: HeaderName, what: &str) -> bool {
    elements(request, header).any(|element| {
        let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
        let mut weights = parameters.split(';').filter_map(|one| one.trim().strip_prefix("q="));
        name.trim().eq_ignore_ascii_case(what) && !weights.any(|weight| weight.trim().parse() == Ok(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(document: &CachedJson, name: &'static str, value: &str) -> (StatusCode, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("valid header value"));
        let reply = document.reply(&headers);
        (reply.status(), reply.headers().contains_key(CONTENT_ENCODING))
    }

    #[test]
    fn a_matching_etag_gets_304() {
        let document = CachedJson::plain(&"x");
        let etag = document.etag.to_str().expect("valid UTF-8").to_owned();
        let strong = etag.trim_start_matches("W/");
        for known in [&etag, strong, "*", &format!("\"other\", {etag}")] {
            assert_eq!(
                reply(&document, "if-none-match", known).0,
                StatusCode::NOT_MODIFIED,
                "{known}"
            );
        }
        assert_eq!(reply(&document, "if-none-match", "\"other\"").0, StatusCode::OK);
        assert!(!document.is_same(&CachedJson::plain(&"y")));
    }

    #[test]
    fn accept_encoding_gzip_is_honoured() {
        let long = CachedJson::plain(&"x".repeat(5_000));
        assert_eq!(reply(&long, "accept-encoding", "gzip"), (StatusCode::OK, false));
        long.compress();
        for yes in ["gzip", "deflate, GZIP;q=0.5", "gzip, identity"] {
            assert_eq!(reply(&long, "accept-encoding", yes), (StatusCode::OK, true), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "gzip; q=0.0", "xgzip"] {
            assert_eq!(reply(&long, "accept-encoding", no), (StatusCode::OK, false), "{no}");
        }
        let short = CachedJson::plain(&"short");
        short.compress();
        assert_eq!(reply(&short, "accept-encoding", "gzip"), (StatusCode::OK, false));
    }

    #[test]
    fn a_concatenated_list_is_the_serialized_one() {
        for elements in [vec![], vec!["a"], vec!["a", "b", "ü\"]"]] {
            let parts: Vec<_> = elements.iter().map(Part::new).collect();
            let list = CachedJson::concatenated(parts.iter());
            assert_eq!(list.plain, CachedJson::plain(&elements).plain);
            assert!(list.is_same(&CachedJson::concatenated(parts.iter())));
            let fewer = CachedJson::concatenated(parts.iter().skip(1));
            assert_eq!(list.is_same(&fewer), elements.is_empty());
        }
    }
}
