//! Only a client that proves possession of the exact certificate is an administrator, while it is listed and valid.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use testing::certificates::{Certificate, Certificates};
use testing::run::run;
use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Wire};
use testing::tls::{End, TlsClient};

/// The gateway itself does not request this target.
const TARGET: &str = "/1.0/instances";

fn upstream() -> Scripted {
    Scripted::start(|_, wire: &mut Wire| wire.answer("200 OK", "text/plain", b"welcome"))
}

/// Returns a client for each version of TLS.
fn versions() -> [TlsClient; 2] {
    [TlsClient::tls12(), TlsClient::tls13()]
}

fn fingerprint_table(name: &str, certificate: &Certificate) -> String {
    format!(
        "[[admin.clients]]\nname = \"{name}\"\nfingerprint = \"{}\"\n",
        certificate.fingerprint()
    )
}

#[track_caller]
fn assert_rejected(status: u16, json: &Value) {
    assert_eq!(status, 403, "{json}");
    let error = json["error"].as_str().unwrap();
    assert!(!error.is_empty());
    let expected = json!({
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": 403,
        "error": error,
        "metadata": null,
    });
    assert_eq!(*json, expected);
}

/// Panics unless the client is rejected over HTTP/1.1 and HTTP/2, for any target, and its connection closed.
fn assert_rejects(admin: SocketAddr, client: &TlsClient) {
    for request in [
        format!("GET {TARGET} HTTP/1.1\r\nHost: gate.test\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: gate.test\r\n\r\n".to_owned(),
        "GET /1.0/x HTTP/1.1\r\nHost: gate.test\r\nX-Incus-forwarded-username: root\r\nSSL-Client-Verify: SUCCESS\r\n\r\n".to_owned(),
        "GET /1.0/events HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "POST /1.0/images HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
    ] {
        let answer = client.connect(admin).unwrap().ask(request).unwrap();
        assert_rejected(answer.head.status, &answer.json());
        assert_eq!(answer.head.field("connection"), Some("close"));
    }
    for method in ["GET", "DELETE"] {
        let mut http2 = client.connect_http2(admin).unwrap();
        let answer = http2.ask(http2.request(method, TARGET)).unwrap();
        assert_rejected(answer.status.as_u16(), &answer.json());
    }
}

/// Panics unless the client is accepted over HTTP/1.1 and HTTP/2.
fn assert_accepts(admin: SocketAddr, client: &TlsClient) {
    let answer = client.connect(admin).unwrap().get(TARGET).unwrap();
    assert_eq!((answer.head.status, answer.text().as_str()), (200, "welcome"));
    let answer = client.connect_http2(admin).unwrap().get(TARGET).unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"welcome"[..]));
}

#[test]
fn only_the_exact_certificate_is_accepted() {
    let upstream = upstream();
    let scene = ScriptedScene::before_with(&upstream, |_| {});
    let certificates = &scene.certificates;
    let authority = certificates.authority("authority");
    let expired = certificates.expired("expired");
    let not_yet_valid = certificates.not_yet_valid("not-yet-valid");
    let mut setup = scene.setup.clone();
    for listed in [&authority, &expired, &not_yet_valid] {
        setup
            .admins
            .push((format!("listed-{}", setup.admins.len()), listed.clone()));
    }
    let gateway = testing::gateway::Gateway::start(&setup.text());

    let ops = scene.ops();
    let stranger = certificates.client("stranger");
    let same_subject = certificates.same_subject(ops, "same-subject");
    let same_key = certificates.same_key(ops, "same-key");
    let child = certificates.client_issued_by(&authority, "child");
    let local = &setup.local;
    for client in versions() {
        let presenting = |chain: &[&Certificate]| client.without_certificate().presenting_chain(chain, chain[0]);
        for (who, client) in [
            ("no certificate", client.without_certificate()),
            ("a stranger", presenting(&[&stranger])),
            ("the same subject", presenting(&[&same_subject])),
            ("the same key", presenting(&[&same_key])),
            ("a child of a listed authority", presenting(&[&child])),
            (
                "a child of a listed authority, with its chain",
                presenting(&[&child, &authority]),
            ),
            (
                "the right one as the chain of a wrong one",
                presenting(&[&stranger, ops]),
            ),
            (
                "the right one as the chain of one with its key",
                presenting(&[&same_key, ops]),
            ),
            ("an expired one that is listed", presenting(&[&expired])),
            ("one that is listed and not valid yet", presenting(&[&not_yet_valid])),
            ("the gateway's own one for Incus", presenting(&[local])),
        ] {
            eprintln!("{who}");
            assert_rejects(gateway.admin(), &client);
        }
        // The same for listed certificates.
        assert_accepts(gateway.admin(), &presenting(&[ops]));
        assert_accepts(gateway.admin(), &presenting(&[&authority]));
        // Only the leaf counts.
        assert_accepts(gateway.admin(), &presenting(&[ops, &stranger]));
    }
    let from_admins = 2 * 3 * 2;
    assert_eq!(upstream.requests().len(), from_admins, "a refused request has gone up");
}

#[test]
fn a_certificate_without_its_key_fails_the_handshake() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    let certificates = &scene.certificates;
    let other_kind = certificates.openssl_rsa("other-kind");
    let same_kind = certificates.client("same-kind");
    for client in versions() {
        for signer in [&same_kind, &other_kind] {
            let client = client.without_certificate().presenting_chain(&[scene.ops()], signer);
            let end = client
                .connect(scene.gateway.admin())
                .and_then(|mut raw| raw.get(TARGET))
                .unwrap_err();
            assert!(matches!(end, End::Tls(_) | End::Reset), "{end}");
            let answer = client
                .connect_http2(scene.gateway.admin())
                .map(|mut http2| http2.get(TARGET));
            assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
        }
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn the_certificate_request_names_no_authorities() {
    // If the hint does not match, Go's clients send no certificate.
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    for client in versions() {
        let client = client.presenting(scene.ops());
        client.connect(scene.gateway.public()).unwrap();
        assert_eq!(client.hints(), None, "the public port asks for none");
        client.connect(scene.gateway.admin()).unwrap();
        assert_eq!(client.hints(), Some(0));
    }
}

/// Returns a certificate of every kind in use.
fn of_every_kind(certificates: &Certificates) -> Vec<(String, Certificate)> {
    let openssl = |name: &str, kind: &[&str]| {
        let made = Certificate {
            certificate: certificates.folder().join(format!("{name}.crt")),
            key: certificates.folder().join(format!("{name}.key")),
        };
        let mut command = Command::new("openssl");
        command
            .args([
                "req",
                "-x509",
                "-nodes",
                "-days",
                "10",
                "-subj",
                &format!("/CN={name}"),
                "-newkey",
            ])
            .args(kind)
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate);
        run(&mut command).ok();
        made
    };
    let kinds = [
        ("p384", certificates.client("p384")),
        ("p256", openssl("p256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])),
        ("p521", openssl("p521", &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"])),
        ("rsa2048", openssl("rsa2048", &["rsa:2048"])),
        ("rsa4096", openssl("rsa4096", &["rsa:4096"])),
        ("ed25519", openssl("ed25519", &["ed25519"])),
        ("ca", certificates.authority("ca")),
        ("v1", certificates.openssl_v1("v1")),
    ];
    kinds.into_iter().map(|(name, made)| (name.to_owned(), made)).collect()
}

#[test]
fn every_kind_of_certificate_is_accepted_by_file() {
    let upstream = upstream();
    let certificates = Certificates::new();
    let kinds = of_every_kind(&certificates);
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.admins.extend(kinds.clone()));
    for (name, certificate) in &kinds {
        for client in versions() {
            eprintln!("{name}");
            assert_accepts(scene.gateway.admin(), &client.presenting(certificate));
        }
    }
    assert_eq!(upstream.requests().len(), 4 * kinds.len());
}

#[test]
fn every_kind_of_certificate_is_accepted_by_fingerprint() {
    let upstream = upstream();
    let certificates = Certificates::new();
    let kinds = of_every_kind(&certificates);
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        setup.admins.clear();
        setup.more = kinds.iter().map(|(name, made)| fingerprint_table(name, made)).collect();
    });
    for (name, certificate) in &kinds {
        for client in versions() {
            eprintln!("{name}");
            assert_accepts(scene.gateway.admin(), &client.presenting(certificate));
        }
    }
    for client in versions() {
        assert_rejects(
            scene.gateway.admin(),
            &client.presenting(&scene.certificates.client("stranger")),
        );
    }
    assert_eq!(upstream.requests().len(), 4 * kinds.len());
}

/// Creates a client certificate that expires in this second.
fn valid_until(certificates: &Certificates, end: SystemTime) -> Certificate {
    let since = end.duration_since(UNIX_EPOCH).unwrap();
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs());
    let key = KeyPair::generate().unwrap();
    let made = Certificate {
        certificate: certificates.folder().join("brief.crt"),
        key: certificates.folder().join("brief.key"),
    };
    fs::write(&made.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&made.key, key.serialize_pem()).unwrap();
    made
}

#[test]
fn validity_dates_are_checked_for_each_request() {
    let upstream = upstream();
    let certificates = Certificates::new();
    // Certificates expire at whole seconds.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(now.as_secs() + 3);
    let brief = valid_until(&certificates, end);
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = fingerprint_table("brief", &brief));
    let mut raw = TlsClient::of(&brief).connect(scene.gateway.admin()).unwrap();
    let mut http2 = TlsClient::of(&brief).connect_http2(scene.gateway.admin()).unwrap();
    // The last second is part of the validity period.
    let end = end + Duration::from_secs(1);
    served_until(end, || {
        let answer = raw.get(TARGET).ok()?;
        Some((answer.head.status, answer.body))
    });
    served_until(end, || {
        let answer = http2.get(TARGET).ok()?;
        Some((answer.status.as_u16(), answer.body.to_vec()))
    });
}

/// Repeats a request until it is rejected or its connection is closed, whichever happens first, and panics if that is
/// before `end` or a request that was sent later is served.
fn served_until(end: SystemTime, mut ask: impl FnMut() -> Option<(u16, Vec<u8>)>) {
    for requests in 0.. {
        let sent_at = SystemTime::now();
        match ask() {
            Some((200, _)) => assert!(sent_at < end, "served after its end"),
            refused => {
                assert!(requests > 0 || sent_at >= end, "never served");
                assert!(SystemTime::now() >= end, "refused before its end: {refused:?}");
                if let Some((status, body)) = refused {
                    assert_rejected(status, &serde_json::from_slice(&body).unwrap());
                }
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_admin_port_resumes_no_session() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    let admin = scene.gateway.admin();
    for client in versions() {
        let client = client.presenting(scene.ops());
        for _ in 0..3 {
            let mut raw = client.connect(admin).unwrap();
            assert!(!raw.is_resumed());
            assert_eq!(raw.get(TARGET).unwrap().head.status, 200);
            assert_eq!(client.sessions_offered(), 0);
        }
        client.stop_presenting();
        let mut raw = client.connect(admin).unwrap();
        assert!(!raw.is_resumed());
        let answer = raw.get(TARGET).unwrap();
        assert_rejected(answer.head.status, &answer.json());
    }
}

#[test]
fn public_sessions_are_resumed_on_the_public_port_only() {
    let upstream = upstream();
    let scene = ScriptedScene::before(&upstream);
    for client in versions() {
        let client = client.presenting(scene.ops());
        assert_eq!(
            client
                .connect(scene.gateway.public())
                .unwrap()
                .get("/1.0")
                .unwrap()
                .head
                .status,
            200
        );
        // This shows that these clients resume where permitted.
        let mut raw = client.connect(scene.gateway.public()).unwrap();
        assert!(raw.is_resumed());
        assert_eq!(raw.get("/1.0").unwrap().head.status, 200);
        assert!(client.sessions_offered() > 0);

        let mut raw = client.connect(scene.gateway.admin()).unwrap();
        assert!(!raw.is_resumed());
        assert_eq!(raw.get(TARGET).unwrap().head.status, 200);

        assert_eq!(
            client
                .connect(scene.gateway.public())
                .unwrap()
                .get("/1.0")
                .unwrap()
                .head
                .status,
            200
        );
        client.stop_presenting();
        let mut raw = client.connect(scene.gateway.admin()).unwrap();
        assert!(!raw.is_resumed());
        let answer = raw.get(TARGET).unwrap();
        assert_rejected(answer.head.status, &answer.json());
    }
}
