//! The beginning of a proxied connection. The first byte of the input determines how the rest is split into pieces.
//!
//! However it is split, the result is that of a second implementation of the protocol in this file. No byte after the header
//! is consumed; and a header that the gateway would send for that client is parsed as the same client.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use edge::proxy_protocol::read_client;
use tokio::runtime::Runtime;
use tokio::task::yield_now;

const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1000);
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

pub fn holds(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read(&[bytes]);
    let expected = expected(bytes);
    assert_eq!(whole, expected, "of {:?}", String::from_utf8_lossy(bytes));
    // Splits before each byte whose bit in the repeated first byte is set.
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for length in (1..=bytes.len())
        .filter(|at| cut >> (at % 8) & 1 == 1)
        .take(8)
        .scan(0, |last, at| Some(at - std::mem::replace(last, at)))
    {
        let (piece, behind) = rest.split_at(length);
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(
        read(&pieces),
        expected,
        "in pieces of {:?}",
        String::from_utf8_lossy(bytes)
    );
    if let Some((client, _)) = expected {
        for header in [v1(client), v2(client)] {
            assert_eq!(read(&[&header, b"rest"]), Some((client, 4)));
        }
    }
}

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
}

/// Returns the client's address, and the number of bytes left after the header.
fn read(pieces: &[&[u8]]) -> Option<(SocketAddr, usize)> {
    let (mut proxy, gateway) = UnixStream::pair().expect("a pair of sockets");
    // A Unix socket pair uses no port and closes without delay, unlike TCP.
    let gateway = TcpStream::from(OwnedFd::from(gateway));
    gateway
        .set_nonblocking(true)
        .expect("a socket can be made non-blocking");
    let send = async {
        for piece in pieces {
            // The write fails if the gateway has stopped reading.
            let _ = proxy.write_all(piece);
            yield_now().await;
        }
        proxy.shutdown(Shutdown::Write)
    };
    let receive = async {
        let mut gateway = tokio::net::TcpStream::from_std(gateway)?;
        let client = read_client(&mut gateway, PROXY).await;
        Ok::<_, std::io::Error>((client, gateway))
    };
    let (client, gateway) = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (sent, received) = tokio::join!(send, receive);
            sent.and(received).expect("a pair of sockets works")
        })
    });
    let mut rest = Vec::new();
    let mut gateway = gateway.into_std().expect("no operation is pending");
    std::io::Read::read_to_end(&mut gateway, &mut rest).expect("the sending end was shut down");
    let sent = pieces.concat();
    assert!(sent.ends_with(&rest), "{rest:?} is not the end of {sent:?}");
    client.ok().map(|client| (client, rest.len()))
}

fn expected(bytes: &[u8]) -> Option<(SocketAddr, usize)> {
    let (client, length) = match bytes.strip_prefix(V2) {
        Some(rest) => expected_v2(rest).map(|(client, length)| (client, V2.len() + length))?,
        None => expected_v1(bytes)?,
    };
    Some((client, bytes.len() - length))
}

fn expected_v1(bytes: &[u8]) -> Option<(SocketAddr, usize)> {
    let length = 1 + bytes.iter().take(107).position(|byte| *byte == b'\n')?;
    let line = bytes[..length].strip_suffix(b"\r\n")?;
    // Everything up to the end of the line is ignored.
    if let Some(rest) = line.strip_prefix(b"PROXY UNKNOWN") {
        return (!rest.contains(&b'\r')).then_some((PROXY, length));
    }
    let mut words = str::from_utf8(line).ok()?.split(' ');
    if words.next()? != "PROXY" {
        return None;
    }
    let client = match words.next()? {
        kind @ ("TCP4" | "TCP6") => {
            let mut address = || -> Option<IpAddr> {
                let address: IpAddr = words.next()?.parse().ok()?;
                (address.is_ipv4() == (kind == "TCP4")).then_some(address)
            };
            let (source, _) = (address()?, address()?);
            let mut port = || words.next()?.parse::<u16>().ok();
            let (source_port, _) = (port()?, port()?);
            SocketAddr::new(source.to_canonical(), source_port)
        }
        _ => return None,
    };
    words.next().is_none().then_some((client, length))
}

fn expected_v2(rest: &[u8]) -> Option<(SocketAddr, usize)> {
    let [command, family, high, low, rest @ ..] = rest else {
        return None;
    };
    let length = usize::from(*high) << 8 | usize::from(*low);
    let body = rest.get(..length).filter(|_| length <= 4096 - 16)?;
    let length = length + 4;
    let client = match (command, family) {
        (0x20, _) | (0x21, 0x00) => PROXY,
        // A Unix socket address does not identify a client.
        (0x21, 0x31 | 0x32) if body.len() >= 216 => PROXY,
        (0x21, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = body else {
                return None;
            };
            SocketAddr::new([*a, *b, *c, *d].into(), u16::from_be_bytes([*high, *low]))
        }
        (0x21, 0x21) => {
            let source: [u8; 16] = body.get(..16)?.try_into().ok()?;
            let port = body.get(32..36)?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            SocketAddr::new(Ipv6Addr::from(source).to_canonical(), port)
        }
        _ => return None,
    };
    Some((client, length))
}

fn v1(client: SocketAddr) -> Vec<u8> {
    let (kind, to) = if client.is_ipv4() {
        ("TCP4", "198.51.100.1")
    } else {
        ("TCP6", "2001:db8::1")
    };
    format!("PROXY {kind} {} {to} {} 80\r\n", client.ip(), client.port()).into_bytes()
}

fn v2(client: SocketAddr) -> Vec<u8> {
    let port = client.port().to_be_bytes();
    match client.ip() {
        IpAddr::V4(ip) => [V2, &[0x21, 0x11, 0, 12], &ip.octets(), &[0; 4], &port, &[0; 2]].concat(),
        IpAddr::V6(ip) => [V2, &[0x21, 0x21, 0, 36], &ip.octets(), &[0; 16], &port, &[0; 2]].concat(),
    }
}
