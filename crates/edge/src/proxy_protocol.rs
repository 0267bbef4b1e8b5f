//! The PROXY protocol (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>): a header before the first byte of TLS,
//! in which a proxy names the client of the connection.
//!
//! [`read_client`] reads it from a proxy in front of the gateway, in both versions. [`announce`] writes it for Incus, in
//! version 1, because the Incus of Debian 12 and 13 supports no other.

use std::io;
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Maximum length of a version 1 header, as specified.
const MAX_V1: usize = 107;
/// Maximum length of a version 2 header that is read, in bytes. Its addresses take up to 52 bytes, or 232 for Unix sockets,
/// and TLVs are skipped. Nginx has the same limit.
const MAX_V2: usize = 4096;
/// Size of the fixed part of a version 2 header: the signature, the version, the family and the length.
const HEAD_V2: usize = 16;
/// Version 2 with the command LOCAL, the byte after the signature.
const LOCAL: u8 = 0x20;

/// Reads a proxy's header, but no byte after it, and returns the client's address. That is the proxy's own address if the
/// header names no client, as in a health check.
///
/// # Errors
/// Fails if the header is missing, malformed or too long, or if the connection ends.
pub async fn read_client(tcp: &mut TcpStream, proxy: SocketAddr) -> io::Result<SocketAddr> {
    let mut signature = [0; V2.len()];
    tcp.read_exact(&mut signature).await?;
    let header = if signature == V2 {
        read_v2(tcp).await?
    } else if signature.starts_with(V1) {
        read_v1(tcp, &signature).await?
    } else {
        return Err(wrong("the connection does not begin with a PROXY header"));
    };
    client(&header, proxy)
}

/// Sends the header with the client's address to Incus; without a client, with the gateway's own address.
pub async fn announce(tcp: &mut TcpStream, client: Option<SocketAddr>) -> io::Result<()> {
    let header = header(client.map_or_else(|| tcp.local_addr(), Ok)?, tcp.peer_addr()?);
    let mut text = [0; MAX_V1];
    let length = header.encode_to_slice_v1(&mut text).map_err(io::Error::other)?;
    tcp.write_all(&text[..length]).await
}

/// The header's end is its only length indication, so this peeks at the available bytes and consumes them up to there.
async fn read_v1(tcp: &mut TcpStream, signature: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = signature.to_vec();
    loop {
        let begun = header.len();
        header.resize(MAX_V1, 0);
        let seen = tcp.peek(&mut header[begun..]).await?;
        let end = header[begun..begun + seen].iter().position(|byte| *byte == b'\n');
        header.truncate(begun + end.map_or(seen, |end| end + 1));
        tcp.read_exact(&mut header[begun..]).await?;
        if end.is_some() {
            return Ok(header);
        }
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if header.len() == MAX_V1 {
            return Err(wrong("the PROXY header is longer than version 1 allows"));
        }
    }
}

async fn read_v2(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = V2.to_vec();
    header.resize(HEAD_V2, 0);
    tcp.read_exact(&mut header[V2.len()..]).await?;
    let rest = u16::from_be_bytes([header[HEAD_V2 - 2], header[HEAD_V2 - 1]]);
    let length = HEAD_V2 + usize::from(rest);
    if length > MAX_V2 {
        return Err(wrong("the PROXY header is too long"));
    }
    header.resize(length, 0);
    tcp.read_exact(&mut header[HEAD_V2..]).await?;
    Ok(header)
}

/// Returns the client that a complete header names.
fn client(header: &[u8], proxy: SocketAddr) -> io::Result<SocketAddr> {
    // The rest of a LOCAL header must be ignored, but `proxy-header` requires it to be valid.
    let is_local = |rest: &[u8]| rest.first() == Some(&LOCAL);
    if header.strip_prefix(V2).is_some_and(is_local) {
        return Ok(proxy);
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header, config) {
        Ok((_, length)) if length != header.len() => Err(wrong("the PROXY header is malformed")),
        Err(_) => Err(wrong("the PROXY header is malformed")),
        Ok((parsed, _)) => match parsed.proxied_address() {
            None => Ok(proxy),
            Some(address) if address.protocol == Protocol::Datagram => Err(wrong("the PROXY header is not for TCP")),
            Some(address) => Ok(SocketAddr::new(
                address.source.ip().to_canonical(),
                address.source.port(),
            )),
        },
    }
}

/// Creates the header. Both addresses must be of one family, so an IPv4 address is converted to IPv6 if necessary.
fn header(source: SocketAddr, destination: SocketAddr) -> ProxyHeader<'static> {
    let (source, destination) = match (source, destination) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => (source, destination),
        _ => (to_ipv6(source), to_ipv6(destination)),
    };
    ProxyHeader::with_address(ProxiedAddress::stream(source, destination))
}

fn to_ipv6(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        // Without the scope, which has no meaning on another host.
        IpAddr::V6(ip) => SocketAddr::new(ip.into(), address.port()),
    }
}

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests;
