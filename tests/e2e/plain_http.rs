//! A client that sends plain HTTP to a TLS port gets one short response that says so, on both ports and behind a proxy. Any
//! other data that is not TLS gets the error that TLS defines.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use testing::scene::ScriptedScene;
use testing::scripted::Scripted;

const BODY: &str = "The plain HTTP request was sent to HTTPS port\n";

/// Returns all bytes until the end of the connection.
fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(request).unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    answer
}

#[track_caller]
fn assert_names_https(answer: &[u8]) {
    let answer = str::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert_eq!(body, BODY);
}

const DEBUG: &str = "[log]\nlevel = \"info,incus_gate=debug\"\n";

fn scripted() -> Scripted {
    Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"))
}

#[test]
fn plain_http_gets_an_answer_that_names_https() {
    let upstream = scripted();
    let scene = ScriptedScene::before(&upstream);
    let (public, admin) = (scene.gateway.public(), scene.gateway.admin());
    for address in [public, admin] {
        assert_names_https(&ask(address, b"GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n"));
        // Even after one byte.
        assert_names_https(&ask(address, b"P"));
        assert_names_https(&ask(address, b"post /1.0 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"));
    }
    for no_http in [
        &b"\x00GET / HTTP/1.1\r\n\r\n"[..],
        b" GET / HTTP/1.1\r\n\r\n",
        // A PROXY header from a sender that is not listed is not treated as HTTP.
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let answer = ask(public, no_http);
        assert!(!answer.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn plain_http_behind_a_proxy_gets_the_same_answer() {
    let upstream = scripted();
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.more = DEBUG.to_owned();
        setup.more_public = "proxy_protocol_from = \"127.0.0.1\"".to_owned();
    });
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    assert_names_https(&ask(
        scene.gateway.public(),
        format!("{header}GET / HTTP/1.1\r\n\r\n").as_bytes(),
    ));
    scene.gateway.wait_for_log("client=192.0.2.1:1");
    scene
        .gateway
        .wait_for_log("rejected a plain HTTP request on an HTTPS port");
}
