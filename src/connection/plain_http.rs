//! Plain HTTP where TLS is expected: one short answer that says so, as Nginx gives it, instead of an alert that no browser
//! shows.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Its length is written out in `Content-Length`.
const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Connection: close\r\n\
    Content-Length: 46\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    \r\n\
    The plain HTTP request was sent to HTTPS port\n";

/// What a proxy says that `proxy_protocol_from` does not name. It is no HTTP, and would be answered wrongly.
const PROXY: &[u8] = b"PROXY ";

/// Waits for the client's first bytes, takes none of them, and says whether they begin an HTTP request. A method begins
/// with a letter (RFC 9110 §9.1 has capitals, a method may be any token), a TLS record with 22.
pub(super) async fn is_spoken(tcp: &TcpStream) -> io::Result<bool> {
    let mut begun = [0; PROXY.len()];
    let length = tcp.peek(&mut begun).await?;
    let begun = &begun[..length];
    Ok(begun.first().is_some_and(u8::is_ascii_alphabetic) && begun != PROXY)
}

/// Answers, and closes. Nothing more is read than what has come: closing with bytes unread resets the connection, which
/// may take the answer from the client.
pub(super) async fn refuse(mut tcp: TcpStream) -> io::Result<()> {
    let mut come = [0; 4096];
    // Nothing is done with it.
    let _ = tcp.try_read(&mut come);
    tcp.write_all(ANSWER).await?;
    tcp.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let answer = str::from_utf8(ANSWER).expect("ASCII");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
}
