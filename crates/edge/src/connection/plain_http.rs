//! Plain HTTP on a TLS port: one short response that names the problem, as Nginx sends it, instead of an alert that no
//! browser displays.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// `Content-Length` contains the length of the body as a literal.
const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Connection: close\r\n\
    Content-Length: 46\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    \r\n\
    The plain HTTP request was sent to HTTPS port\n";

/// Start of a PROXY header from an address that `proxy_protocol_from` does not list. It is not HTTP, and an HTTP response
/// would be misleading.
const PROXY: &[u8] = b"PROXY ";

/// Waits for the client's first bytes, does not consume them, and returns whether they begin an HTTP request. A method begins
/// with a letter (RFC 9110 §9.1 defines uppercase ones, but a method may be any token), a TLS record with byte 22.
pub(super) async fn is_spoken(tcp: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PROXY.len()];
    let length = tcp.peek(&mut start).await?;
    let start = &start[..length];
    Ok(start.first().is_some_and(u8::is_ascii_alphabetic) && start != PROXY)
}

/// Sends the response and closes. First reads what has already arrived: closing a socket with unread bytes resets the
/// connection, which may discard the response.
pub(super) async fn refuse(mut tcp: TcpStream) -> io::Result<()> {
    let mut received = [0; 4096];
    // The request is ignored.
    let _ = tcp.try_read(&mut received);
    tcp.write_all(ANSWER).await?;
    tcp.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_matches_the_body() {
        let answer = str::from_utf8(ANSWER).expect("the response is ASCII");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a header and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
}
