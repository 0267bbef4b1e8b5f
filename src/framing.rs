//! Whether a request can be read in one way only. What could be taken for another one by whoever stands before or behind
//! us is refused on both ports, and on HTTP/1 its connection ends: nobody knows where the next one begins.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Version};

use crate::reply::HttpError;

/// Refuses what is not. hyper has refused what cannot be read at all.
pub fn validate<B>(request: &Request<B>) -> Result<(), HttpError> {
    let problem = if !has_valid_host(request) {
        "a request needs one Host header, and it must name a host"
    } else if !is_for_path(request) {
        "the request's target is not a path"
    } else if !is_framed(request) {
        "a request's body has one length, or is chunked and nothing else"
    } else {
        return Ok(());
    };
    Err(HttpError::Ambiguous(problem))
}

/// HTTP/1.1 names one host (RFC 9112 §3.2). HTTP/2 may name it twice, if it is the same (RFC 9113 §8.3.1).
fn has_valid_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let authority = request.uri().authority();
    let is_named = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => is_host(host.as_bytes()) && is_no_other(request, host.as_bytes()),
        _ => false,
    };
    is_named && authority.is_none_or(|authority| is_host(authority.as_str().as_bytes()))
}

/// In HTTP/1.1 a proxy must not look at the host beside an authority (RFC 9112 §3.2.2).
fn is_no_other<B>(request: &Request<B>, host: &[u8]) -> bool {
    request.version() != Version::HTTP_2
        || request
            .uri()
            .authority()
            .is_none_or(|authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host))
}

/// Names, addresses, ports, and what anybody has in them; no user, list, path or blank.
fn is_host(host: &[u8]) -> bool {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(byte);
    host.iter().all(is_known)
}

/// A host alone stands where a path belongs in CONNECT only.
fn is_for_path<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    uri.authority().is_none() || uri.scheme().is_some() || *request.method() == Method::CONNECT
}

/// Chunks, once, are the only coding that we take off (RFC 9112 §6.1). hyper has one length at most for HTTP/1.1, but for
/// HTTP/2 as many as there came, if they are the same.
fn is_framed<B>(request: &Request<B>) -> bool {
    let is_single = |name| request.headers().get_all(name).iter().nth(1).is_none();
    if request.version() == Version::HTTP_2 {
        return is_single(CONTENT_LENGTH);
    }
    let coding = request.headers().get(TRANSFER_ENCODING);
    coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked") && is_single(TRANSFER_ENCODING))
}
