//! The admin port is transparent: Incus receives what an administrator sends, and the reverse.

use testing::scene::ScriptedScene;
use testing::scripted::{Request, Scripted};
use testing::tls::TlsClient;

#[test]
fn path_and_query_are_forwarded_byte_for_byte() {
    const TARGETS: [&str; 16] = [
        "/",
        "/?",
        "/1.0?",
        "/1.0/images/aliases/a%2Fb",
        "/1.0/images/aliases/a%2fb",
        "/1.0/images/aliases/%41%7e~",
        "/1.0//instances///x/",
        "/1.0/./instances/../../etc/passwd",
        "/1.0/%2e%2e/x",
        "/1.0/files?path=/a%20b+c&&=&path=%2Froot",
        "/1.0/x?a=b?c=d/e",
        "/1.0/x;v=1,2:3@4!$&'()*+=",
        "/1.0/%00%ff%0a",
        "/1.0/ä?ö=ü",
        "/1.0/x?filter=name%20eq%20{a|b}^`c`",
        "//gate.test/1.0",
    ];
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for target in TARGETS {
        assert_eq!(raw.get(target).unwrap().head.status, 200, "{target}");
    }
    let seen: Vec<String> = upstream.requests().iter().map(Request::target).collect();
    assert_eq!(seen, TARGETS);
}

#[test]
fn path_and_query_of_http2_are_forwarded_byte_for_byte() {
    const TARGETS: [&str; 4] = [
        "/1.0/images/aliases/a%2Fb",
        "/1.0//instances/%2e./x/",
        "/1.0/files?path=/a%20b+c&&=&path=%2Froot",
        "/1.0/%00%ff?",
    ];
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    for target in TARGETS {
        assert_eq!(http2.get(target).unwrap().status, 200, "{target}");
    }
    let seen: Vec<String> = upstream.requests().iter().map(Request::target).collect();
    assert_eq!(seen, TARGETS);
}

#[test]
fn every_method_is_forwarded() {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FROBNICATE"];
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for method in METHODS {
        let request = format!("{method} /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(raw.ask(request).unwrap().head.status, 200, "{method}");
    }
    let seen: Vec<String> = upstream.requests().iter().map(Request::method).collect();
    assert_eq!(seen, METHODS);
}

#[test]
fn a_request_is_never_parsed_as_two() {
    let upstream = Scripted::start(|request, wire| {
        let body = wire.read_body().unwrap();
        let target = request.target();
        wire.answer("200 OK", "text/plain", &[target.as_bytes(), b" ", &body].concat())
    });
    let scene = ScriptedScene::before(&upstream);

    // Two framings: the chunks count (RFC 9112 §6.3), and Incus must not see the other one.
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let both = "POST /1.0/a HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(raw.ask(both).unwrap().text(), "/1.0/a hello");
    let request = upstream.request();
    assert_eq!(request.values("content-length"), [""; 0]);
    assert_eq!(request.values("transfer-encoding"), ["chunked"]);

    // Several requests in one write.
    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send(
        "POST /1.0/b HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbodyGET /1.0/c HTTP/1.1\r\n\
         Host: gate.test\r\n\r\nGET /1.0/d HTTP/1.1\r\nHost: gate.test\r\n\r\n",
    )
    .unwrap();
    for expected in ["/1.0/b body", "/1.0/c ", "/1.0/d "] {
        assert_eq!(raw.read_answer().unwrap().text(), expected);
    }

    // Ambiguous requests are rejected.
    let before = upstream.requests().len();
    for fields in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
    ] {
        let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
        let answer = raw
            .ask(format!(
                "POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\n{fields}\r\n\r\nbody"
            ))
            .unwrap();
        assert_eq!(answer.head.status, 400, "{fields}");
    }
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn head_responses_keep_their_content_length() {
    let upstream = Scripted::start(|_, wire| wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"));
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    for _ in 0..2 {
        raw.send("HEAD /1.0/x HTTP/1.1\r\nHost: gate.test\r\n\r\n").unwrap();
        assert_eq!(raw.read_head().unwrap().field("content-length"), Some("1234"));
    }
    assert_eq!(upstream.requests()[1].method(), "HEAD");
}

#[test]
fn every_status_is_forwarded_and_keeps_the_connection() {
    const STATUSES: [&str; 7] = [
        "204 No Content",
        "304 Not Modified",
        "200 OK",
        "299 Whatever",
        "412 Precondition Failed",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ];
    let upstream = Scripted::start(|request, wire| {
        let status = STATUSES
            .iter()
            .find(|status| status.starts_with(&request.target()[5..]));
        let status = status.unwrap();
        match &status[..3] {
            "204" | "304" => wire.send(format!("HTTP/1.1 {status}\r\nETag: x\r\n\r\n")),
            _ => wire.answer(status, "text/plain", status.as_bytes()),
        }
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    let mut http2 = TlsClient::of(scene.ops()).connect_http2(scene.gateway.admin()).unwrap();
    for status in STATUSES {
        let body = if matches!(&status[..3], "204" | "304") {
            ""
        } else {
            status
        };
        let target = format!("/1.0/{}", &status[..3]);
        let answer = raw.get(&target).unwrap();
        assert_eq!(
            (answer.head.status.to_string().as_str(), answer.text().as_str()),
            (&status[..3], body)
        );
        let answer = http2.get(&target).unwrap();
        assert_eq!(
            (answer.status.as_str(), answer.body.as_ref()),
            (&status[..3], body.as_bytes())
        );
    }
}

#[test]
fn expect_100_continue_gets_100() {
    let upstream = Scripted::start(|_, wire| {
        let body = wire.read_body().unwrap();
        wire.answer("200 OK", "text/plain", &body)
    });
    let scene = ScriptedScene::before(&upstream);

    let mut raw = TlsClient::of(scene.ops()).connect(scene.gateway.admin()).unwrap();
    raw.send("POST /1.0/x HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(raw.read_head().unwrap().status, 100);
    raw.send("body").unwrap();
    assert_eq!(raw.read_answer().unwrap().text(), "body");
    assert_eq!(upstream.request().field("expect"), None);
}
