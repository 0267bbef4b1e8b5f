//! Headers that are forwarded from a client to Incus, and from Incus to a client (RFC 9110 §7.6).

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// Hop-by-hop headers, whether `Connection` lists them or not. `Expect` is included because hyper has already answered it
/// when the body arrives.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Prefixes of headers that make Incus trust the sender's statement about the client's identity. Only the gateway may make
/// such a statement.
const IDENTITY: [&str; 2] = ["x-incus-forwarded-", "ssl-client-"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Removes the client's headers that are not for Incus, and adds the forwarding headers.
pub fn to_incus(headers: &mut HeaderMap, client: IpAddr) {
    drop_hop_by_hop(headers);
    drop_identity(headers);
    add_forwarded(headers, client);
    join_cookies(headers);
}

/// Removes hop-by-hop headers (RFC 9110 §7.6.1).
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // A client must not make the gateway remove the headers that frame and route the request.
        .filter(|name| *name != http::header::HOST && *name != http::header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Removes headers that claim an identity.
fn drop_identity(headers: &mut HeaderMap) {
    let speaks_for_others = |name: &&HeaderName| IDENTITY.iter().any(|prefix| name.as_str().starts_with(prefix));
    let names: Vec<HeaderName> = headers.keys().filter(speaks_for_others).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Adds the client's address in the headers that Nginx sets. Incus reads none of them.
fn add_forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let address = HeaderValue::from_str(&client.to_string()).expect("an IP address is a valid header value");
    let mut chain: Vec<u8> = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(earlier.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(address.as_bytes());
    let chain = HeaderValue::from_bytes(&chain).expect("header values joined by commas are a valid header value");
    headers.insert(FORWARDED_FOR, chain);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(REAL_IP, address);
}

/// Joins cookies: HTTP/2 may split them over several fields, HTTP/1.1 allows one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let whole = crumbs.join(b"; ".as_slice());
        headers.insert(
            COOKIE,
            HeaderValue::from_bytes(&whole).expect("joined cookies are a valid header value"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn headers_named_by_connection_are_dropped() {
        let mut map = headers(&[
            ("connection", "close, X-Foo"),
            ("connection", "host"),
            ("x-foo", "1"),
            ("x-bar", "2"),
            ("host", "gate:8555"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
        ]);
        drop_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-bar", "2"), ("host", "gate:8555")]));
    }

    #[test]
    fn identity_headers_of_clients_are_dropped() {
        let mut map = headers(&[
            ("x-incus-forwarded-username", "root"),
            ("x-incus-forwarded-protocol", "unix"),
            ("ssl-client-cert", "x"),
            ("ssl-client-verify", "SUCCESS"),
            ("x-incus-type", "incus"),
        ]);
        drop_identity(&mut map);
        assert_eq!(map, headers(&[("x-incus-type", "incus")]));
    }

    #[test]
    fn the_client_is_appended_to_x_forwarded_for() {
        let mut map = headers(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-real-ip", "10.0.0.3"),
        ]);
        add_forwarded(&mut map, IpAddr::from([192, 0, 2, 7]));
        assert_eq!(map["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 192.0.2.7");
        assert_eq!(map["x-real-ip"], "192.0.2.7");
        assert_eq!(map["x-forwarded-proto"], "https");
    }

    #[test]
    fn cookie_crumbs_become_one_cookie() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut map);
        assert_eq!(map, headers(&[("cookie", "a=1; b=2")]));
    }
}
