use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;
use crate::worker::runtime;

const PROXY: &str = "192.0.2.1:1000";
/// Stand-in for the TLS bytes.
const REST: &[u8] = b"\x16\x03\x01\r\nPROXY \n";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Returns the result of reading these chunks from a connection, and the remaining bytes.
fn read(pieces: &[&[u8]]) -> (io::Result<SocketAddr>, Vec<u8>) {
    let talk = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
        let (mut client, mut server) = (client?, server?.0);
        client.set_nodelay(true)?;
        let send = async {
            for piece in pieces {
                client.write_all(piece).await?;
                // Let the other side see a part.
                tokio::task::yield_now().await;
            }
            client.shutdown().await
        };
        let receive = async {
            let named = read_client(&mut server, address(PROXY)).await;
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await?;
            Ok::<_, io::Error>((named, rest))
        };
        let (sent, received) = tokio::join!(send, receive);
        sent?;
        received
    };
    runtime()
        .and_then(|runtime| runtime.block_on(talk))
        .expect("loopback connections work")
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short body");
    [V2, &[command, family], &length.to_be_bytes(), body].concat()
}

fn ipv4(source: [u8; 4], port: u16) -> Vec<u8> {
    [&source[..], &[198, 51, 100, 1], &port.to_be_bytes(), &[0, 80]].concat()
}

#[test]
fn each_valid_header_yields_its_client_address() {
    let ours = ipv4([203, 0, 113, 7], 4711);
    let mapped = [
        &[0; 10][..],
        &[255, 255, 203, 0, 113, 7],
        &[0; 16],
        &[0x12, 0x67, 0, 80],
    ]
    .concat();
    let long = [&ours[..], &[4, 0x0f, 0xe1], &[0; 0xfe1]].concat();
    let cases: [(Vec<u8>, &str); 10] = [
        (
            b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n".into(),
            "203.0.113.7:4711",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n".into(),
            "[2001:db8::7]:4711",
        ),
        // An IPv4 client must have the same address behind an IPv6 proxy.
        (
            b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n".into(),
            "203.0.113.7:4711",
        ),
        (b"PROXY UNKNOWN\r\n".into(), PROXY),
        (b"PROXY UNKNOWN 203.0.113.7 198.51.100.1 4711 80\r\n".into(), PROXY),
        (v2(0x21, 0x11, &ours), "203.0.113.7:4711"),
        (v2(0x21, 0x21, &mapped), "203.0.113.7:4711"),
        (v2(0x21, 0x11, &long), "203.0.113.7:4711"),
        (v2(0x20, 0x11, &ours), PROXY),
        (v2(0x21, 0x00, b"whatever"), PROXY),
    ];
    for (header, expected) in cases {
        let (named, rest) = read(&[&header, REST]);
        assert_eq!(named.expect("a valid header"), address(expected), "{header:?}");
        assert_eq!(rest, REST, "{header:?}");
    }
}

#[test]
fn invalid_headers_are_rejected() {
    let ours = ipv4([203, 0, 113, 7], 4711);
    let too_long = [&ours[..], &[0; MAX_V2]].concat();
    let cases: [Vec<u8>; 15] = [
        b"".into(),
        b"PROXY ".into(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\0\0\0".into(),
        b"GET /1.0 HTTP/1.1\r\n\r\n".into(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80".into(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\n".into(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4711\r\n".into(),
        b"PROXY TCP4 203.0.113.256 198.51.100.1 4711 80\r\n".into(),
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n".into(),
        [b"PROXY UNKNOWN ", &[b'x'; MAX_V1][..], b"\r\n"].concat(),
        v2(0x22, 0x11, &ours),
        v2(0x11, 0x11, &ours),
        v2(0x21, 0x12, &ours),
        v2(0x21, 0x11, &ours[1..]),
        v2(0x21, 0x11, &too_long),
    ];
    for header in cases {
        let (named, _) = read(&[&header]);
        assert!(named.is_err(), "{header:?}: {named:?}");
    }
}

#[test]
fn the_header_to_incus_uses_one_address_family() {
    let encode = |source, destination| {
        let mut text = [0; MAX_V1];
        let length = header(address(source), address(destination)).encode_to_slice_v1(&mut text);
        String::from_utf8_lossy(&text[..length.expect("the header fits")]).into_owned()
    };
    assert_eq!(
        encode("203.0.113.7:4711", "127.0.0.1:8553"),
        "PROXY TCP4 203.0.113.7 127.0.0.1 4711 8553\r\n"
    );
    assert_eq!(
        encode("[2001:db8::7]:4711", "127.0.0.1:8553"),
        "PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 4711 8553\r\n"
    );
    assert_eq!(
        encode("203.0.113.7:4711", "[::1]:8553"),
        "PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 8553\r\n"
    );
    let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    assert_eq!(encode(longest, longest).len(), 104);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_bytes_parses_the_same(cuts in prop::collection::vec(1_usize..30, 0..6), version in 0..2) {
        let header = match version {
            0 => b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n".to_vec(),
            _ => v2(0x21, 0x11, &[&ipv4([203, 0, 113, 7], 4711)[..], b"\x04\0\x02\0\0"].concat()),
        };
        let whole = [&header[..], REST].concat();
        let mut pieces = Vec::new();
        let mut rest = &whole[..];
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        let (named, left) = read(&pieces);
        prop_assert_eq!(named.expect("a valid header"), address("203.0.113.7:4711"));
        prop_assert_eq!(left, REST);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_bytes_make_the_parser_panic(
        begin in prop::sample::select(vec![V1, V2, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", b""]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b" .:\r\n0123\x11\x20\x21".to_vec())], 0..300),
    ) {
        // Any result is fine, as long as it does not panic.
        let _ = client(&[begin, &rest].concat(), address(PROXY));
    }
}
