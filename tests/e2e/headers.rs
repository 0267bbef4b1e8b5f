//! The admin port forwards all headers in both directions, except hop-by-hop headers and those that claim another identity.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderName, HeaderValue};
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::{End, TlsClient};

/// Headers that an admin sends …
const SENT: &[(&str, &str)] = &[
    ("authorization", "Bearer x"),
    ("if-match", "\"an etag\""),
    ("origin", "https://gate.test:8555"),
    ("user-agent", "incus 6.0"),
    ("x-incus-description", "a description"),
    ("x-incus-type", "incus"),
    ("x-incus-forwardedness", "is another word"),
    ("x-several", "1"),
    ("x-several", "2"),
    // These identify the client …
    ("x-forwarded-for", "10.0.0.1"),
    ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
    ("x-forwarded-proto", "http"),
    ("x-real-ip", "10.0.0.4"),
    // … these claim another identity …
    ("ssl-client-cert", "-----BEGIN CERTIFICATE-----"),
    ("ssl-client-verify", "SUCCESS"),
    ("x-incus-forwarded-address", "10.0.0.5"),
    ("x-incus-forwarded-protocol", "unix"),
    ("x-incus-forwarded-username", "root"),
    // … and this is hop-by-hop.
    ("te", "trailers"),
];

/// … and those that Incus receives.
const RECEIVED: &[(&str, &str)] = &[
    ("authorization", "Bearer x"),
    ("host", "gate.test:8555"),
    ("if-match", "\"an etag\""),
    ("origin", "https://gate.test:8555"),
    ("user-agent", "incus 6.0"),
    ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-incus-description", "a description"),
    ("x-incus-forwardedness", "is another word"),
    ("x-incus-type", "incus"),
    ("x-real-ip", "127.0.0.1"),
    ("x-several", "1"),
    ("x-several", "2"),
];

#[test]
fn hop_by_hop_and_identity_headers_are_not_forwarded() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut request = "GET /1.0/x HTTP/1.1\r\nHost: gate.test:8555\r\n".to_owned();
    for (name, value) in SENT {
        request += &format!("{name}: {value}\r\n");
    }
    request += "Connection: close, X-Foo\r\nConnection: x-bar , keep-alive\r\nX-Foo: 1\r\nX-Bar: 2\r\n\
                Keep-Alive: timeout=5\r\nProxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\n\
                Trailer: x-checksum\r\nUpgrade: websocket\r\n\r\n";
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    assert_eq!(raw.ask(request).unwrap().head.status, 200);
    assert_eq!(sorted(upstream.request().fields()), owned(RECEIVED));
}

#[test]
fn connection_close_is_not_forwarded() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let client = TlsClient::of(scene.ops());
    for version in ["HTTP/1.0\r\n", "HTTP/1.1\r\nConnection: close\r\n"] {
        let mut raw = client.connect(scene.gateway.admin()).unwrap();
        assert_eq!(
            raw.ask(format!("GET /1.0/x {version}Host: gate.test\r\n\r\n"))
                .unwrap()
                .head
                .status,
            200
        );
        assert_eq!(raw.end(), End::CloseNotify);
    }
    for request in upstream.requests() {
        assert!(request.line().ends_with(" HTTP/1.1"));
        assert_eq!(request.field("connection"), None);
    }
}

#[test]
fn headers_of_http2_requests_are_forwarded() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let mut request = http2.request("GET", "/1.0/x");
    for (name, value) in SENT {
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    assert_eq!(http2.ask(request).unwrap().status, 200);
    assert_eq!(sorted(upstream.request().fields()), owned(RECEIVED));
}

#[test]
fn ipv4_clients_of_an_ipv6_socket_have_ipv4_addresses() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.admin = "[::]:0".to_owned());

    let port = scene.gateway.admin_port();
    for (address, spelt) in [
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "127.0.0.1"),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "::1"),
    ] {
        let mut raw = TlsClient::of(scene.ops()).connect(address).unwrap();
        assert_eq!(raw.get("/1.0/x").unwrap().head.status, 200);
        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.field("x-real-ip").as_deref(), Some(spelt));
        assert_eq!(request.field("x-forwarded-for").as_deref(), Some(spelt));
    }
}

#[test]
fn hop_by_hop_headers_of_responses_are_not_forwarded() {
    const ANSWER: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\nDate: Sat, 21 Nov 2026 05:00:00 GMT\r\n\
        ETag: \"an etag\"\r\nLocation: /1.0/operations/1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Incus-Type: oci\r\n\
        Connection: X-Foo, keep-alive\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
        Proxy-Connection: keep-alive\r\nTrailer: x\r\nUpgrade: h2c\r\n\r\nx";
    let expected = owned(&[
        ("content-length", "1"),
        ("date", "Sat, 21 Nov 2026 05:00:00 GMT"),
        ("etag", "\"an etag\""),
        ("location", "/1.0/operations/1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-incus-type", "oci"),
    ]);
    let upstream = Scripted::start(|_, wire| wire.send(ANSWER));
    let scene = ScriptedScene::before(&upstream);

    let answer = TlsClient::of(scene.ops())
        .connect(scene.gateway.admin())
        .unwrap()
        .get("/1.0/x")
        .unwrap();
    assert_eq!(answer.head.status, 202);
    assert_eq!(sorted(answer.head.fields), expected);

    let answer = TlsClient::of(scene.ops())
        .connect_http2(scene.gateway.admin())
        .unwrap()
        .get("/1.0/x")
        .unwrap();
    assert_eq!(answer.status, 202);
    let fields = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    assert_eq!(sorted(fields.collect()), expected);
}

#[test]
fn cookies_split_by_http2_are_joined() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let mut request = http2.request("GET", "/1.0/x");
    for cookie in ["a=1", "b=2; c=3", "d=4"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(cookie));
    }
    assert_eq!(http2.ask(request).unwrap().status, 200);
    assert_eq!(
        upstream.request().field("cookie").as_deref(),
        Some("a=1; b=2; c=3; d=4")
    );
}

#[test]
fn headers_of_60_kibibytes_are_forwarded_both_ways() {
    let large = "v".repeat(1000);
    let fields: String = (0..60).map(|n| format!("X-Incus-{n}: {large}\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 1\r\n\r\nx");
    let upstream = Scripted::start(move |_, wire| wire.send(&answer));
    let scene = ScriptedScene::before(&upstream);

    let request = format!("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\n{fields}\r\n");
    let answer = TlsClient::of(scene.ops())
        .connect(scene.gateway.admin())
        .unwrap()
        .ask(request)
        .unwrap();
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.field("x-incus-59"), Some(large.as_str()));

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    let mut request = http2.request("GET", "/1.0/x");
    for n in 0..60 {
        let name = HeaderName::try_from(format!("x-incus-{n}")).unwrap();
        request
            .headers_mut()
            .append(name, HeaderValue::try_from(&large).unwrap());
    }
    let answer = http2.ask(request).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-incus-59"], large.as_str());

    for request in upstream.wait_for_requests(2) {
        assert_eq!(request.field("x-incus-59").as_deref(), Some(large.as_str()));
    }
}

#[test]
fn headers_over_the_limit_are_rejected() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let fields: String = (0..80)
        .map(|n| format!("X-Incus-{n}: {}\r\n", "v".repeat(1000)))
        .collect();
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let answer = raw
        .ask(format!("GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\n{fields}\r\n"))
        .unwrap();
    assert_eq!(answer.head.status, 431);
    assert!(upstream.requests().is_empty());
}

fn sorted(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.sort();
    fields
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
