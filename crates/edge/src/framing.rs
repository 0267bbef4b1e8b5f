//! Rejects requests that can be interpreted in more than one way. A request that a proxy in front of or behind the gateway
//! could read differently is rejected on both ports. On HTTP/1 its connection ends, because the start of the next request is
//! uncertain.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Version};

use crate::admission::Rejection;

/// Rejects an ambiguous request. hyper has already rejected what cannot be parsed.
///
/// # Errors
/// Returns [`Rejection::Ambiguous`] with the reason.
pub fn validate<B>(request: &Request<B>) -> Result<(), Rejection> {
    let problem = if !has_valid_host(request) {
        "the request needs exactly one Host header with a valid host"
    } else if !is_for_path(request) {
        "the request's target is not a path"
    } else if !is_framed(request) {
        "the request has an ambiguous body length: it needs one Content-Length, or `chunked` as its only transfer coding"
    } else {
        return Ok(());
    };
    Err(Rejection::Ambiguous(problem))
}

/// HTTP/1.1 requires exactly one host (RFC 9112 §3.2). HTTP/2 may name it twice if both are equal (RFC 9113 §8.3.1).
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

/// In HTTP/1.1 a proxy must ignore the Host header if the target contains an authority (RFC 9112 §3.2.2).
fn is_no_other<B>(request: &Request<B>, host: &[u8]) -> bool {
    request.version() != Version::HTTP_2
        || request
            .uri()
            .authority()
            .is_none_or(|authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host))
}

/// Accepts names, addresses, ports, and the characters that occur in them; no user information, list, path or whitespace.
fn is_host(host: &[u8]) -> bool {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%:[]".contains(byte);
    host.iter().all(is_known)
}

/// Only CONNECT has a bare authority as its target.
fn is_for_path<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    uri.authority().is_none() || uri.scheme().is_some() || *request.method() == Method::CONNECT
}

/// `chunked`, once, is the only transfer coding that the gateway decodes (RFC 9112 §6.1). hyper accepts at most one length
/// for HTTP/1.1, but for HTTP/2 any number of equal ones.
fn is_framed<B>(request: &Request<B>) -> bool {
    let is_single = |name| request.headers().get_all(name).iter().nth(1).is_none();
    if request.version() == Version::HTTP_2 {
        return is_single(CONTENT_LENGTH);
    }
    let coding = request.headers().get(TRANSFER_ENCODING);
    coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked") && is_single(TRANSFER_ENCODING))
}
