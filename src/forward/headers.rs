//! Which headers of a client reach Incus, and which of Incus's reach a client (RFC 9110 §7.6).

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// Meant for the next hop alone, whether `Connection` names them or not. `Expect` is among them because hyper has
/// answered it by the time a body flows.
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

/// With these, Incus takes the sender at its word about who the client is; that word is ours alone to give.
const IDENTITY: [&str; 2] = ["x-incus-forwarded-", "ssl-client-"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Leaves of a client's headers what is for Incus, and says who the client is.
pub fn to_incus(headers: &mut HeaderMap, client: IpAddr) {
    drop_hop_by_hop(headers);
    drop_identity(headers);
    add_forwarded(headers, client);
    join_cookies(headers);
}

/// Drops what concerns one connection only (RFC 9110 §7.6.1).
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // A client must not make us drop what the request needs to be understood.
        .filter(|name| *name != http::header::HOST && *name != http::header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Drops what speaks for somebody else.
fn drop_identity(headers: &mut HeaderMap) {
    let speaks_for_others = |name: &&HeaderName| IDENTITY.iter().any(|prefix| name.as_str().starts_with(prefix));
    let names: Vec<HeaderName> = headers.keys().filter(speaks_for_others).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Says who the client is, in the words that Nginx used. Incus reads none of them.
fn add_forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let address = HeaderValue::from_str(&client.to_string()).expect("an IP address is a header's value");
    let mut chain: Vec<u8> = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(earlier.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(address.as_bytes());
    let chain = HeaderValue::from_bytes(&chain).expect("header values joined by a comma are a header's value");
    headers.insert(FORWARDED_FOR, chain);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(REAL_IP, address);
}

/// HTTP/2 may split cookies over several fields; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let whole = crumbs.join(b"; ".as_slice());
        headers.insert(
            COOKIE,
            HeaderValue::from_bytes(&whole).expect("cookies joined are a header's value"),
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
    fn what_connection_names_is_dropped_too() {
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
    fn nobody_speaks_for_others() {
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
    fn the_client_is_appended_to_the_chain() {
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
