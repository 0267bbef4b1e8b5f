//! TLS parameters of both ports: which key exchanges are offered, and which features are never available.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use testing::gateway::Gateway;
use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Wire};
use testing::tls::{PATIENCE, TlsClient};

fn upstream() -> Scripted {
    Scripted::start(|_, wire: &mut Wire| wire.answer("200 OK", "text/plain", b"welcome"))
}

fn ports(gateway: &Gateway) -> [SocketAddr; 2] {
    [gateway.public(), gateway.admin()]
}

/// Returns the negotiated group, and whether it needed another round trip.
fn key_exchange(port: SocketAddr, groups: &[&'static dyn SupportedKxGroup], shared: NamedGroup) -> (NamedGroup, bool) {
    let client = TlsClient::tls13().key_exchange(groups, shared, port);
    client.connect(port).unwrap().key_exchange()
}

#[test]
fn post_quantum_key_exchange_is_used_if_the_client_prefers_it() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    for port in ports(&scene.gateway) {
        let modern = [X25519MLKEM768, X25519, SECP256R1, SECP384R1];
        let taken = key_exchange(port, &modern, NamedGroup::X25519MLKEM768);
        assert_eq!(taken, (NamedGroup::X25519MLKEM768, false));
        // The gateway requests its key share, although another group would work.
        let taken = key_exchange(port, &modern, NamedGroup::X25519);
        assert_eq!(taken, (NamedGroup::X25519MLKEM768, true));
        // The client's order counts.
        let hesitant = [X25519, X25519MLKEM768];
        let taken = key_exchange(port, &hesitant, NamedGroup::X25519);
        assert_eq!(taken, (NamedGroup::X25519, false));
        for (group, name) in [
            (X25519, NamedGroup::X25519),
            (SECP256R1, NamedGroup::secp256r1),
            (SECP384R1, NamedGroup::secp384r1),
        ] {
            assert_eq!(key_exchange(port, &[group], name), (name, false));
        }
    }
}

#[test]
fn early_data_is_never_accepted() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    let client = TlsClient::tls13().with_early_data();
    for is_resumed in [false, true, true] {
        let mut raw = client.connect(scene.gateway.public()).unwrap();
        assert_eq!((raw.is_resumed(), raw.permits_early_data()), (is_resumed, false));
        assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
    }
    assert!(client.sessions_offered() > 0);
    let client = TlsClient::of(scene.ops()).with_early_data();
    for _ in 0..2 {
        let mut raw = client.connect(scene.gateway.admin()).unwrap();
        assert!(!raw.permits_early_data());
        assert_eq!(raw.get("/1.0/instances").unwrap().head.status, 200);
    }
    assert_eq!(client.sessions_offered(), 0);
}

/// Returns a TLS 1.2 ClientHello that offers compression.
fn client_hello() -> Vec<u8> {
    let extensions: Vec<u8> = [
        // supported_groups: x25519
        &[0, 10, 0, 4, 0, 2, 0, 29][..],
        // signature_algorithms: ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384
        &[0, 13, 0, 6, 0, 4, 4, 3, 5, 3],
        // extended_master_secret
        &[0, 23, 0, 0],
    ]
    .concat();
    let length = u8::try_from(extensions.len()).unwrap();
    let body: Vec<u8> = [
        // TLS 1.2; a random; no session; ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; DEFLATE and null.
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0xc0, 0x2b, 2, 1, 0, 0, length],
        &extensions,
    ]
    .concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[test]
fn downgrades_to_tls_1_2_are_detectable_and_uncompressed() {
    const RANDOM: usize = 5 + 4 + 2;
    const SESSION: usize = RANDOM + 32;
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    for port in ports(&scene.gateway) {
        let mut tcp = TcpStream::connect(port).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.write_all(&client_hello()).unwrap();
        let mut answer = [0; SESSION + 1];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[5]), (22, 2), "no ServerHello: {answer:?}");
        // RFC 8446 §4.1.3
        assert_eq!(&answer[SESSION - 8..SESSION], b"DOWNGRD\x01");
        let mut rest = vec![0; usize::from(answer[SESSION]) + 3];
        tcp.read_exact(&mut rest).unwrap();
        let [.., suite, number, compression] = rest[..] else {
            unreachable!("three bytes at least");
        };
        assert_eq!(([suite, number], compression), ([0xc0, 0x2b], 0));
    }
}

#[test]
fn renegotiation_is_rejected() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    for port in ports(&scene.gateway) {
        let mut openssl = Command::new("timeout")
            .args(["60", "openssl", "s_client", "-tls1_2", "-connect", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // This requests renegotiation. The server's response ends openssl, because its input stays open.
        let mut input = openssl.stdin.take().unwrap();
        input.write_all(b"R\n").unwrap();
        let output = openssl.wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            printed.contains("RENEGOTIATING") && printed.contains("no renegotiation"),
            "{printed}"
        );
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("Secure Renegotiation IS supported"), "{printed}");
    }
}
