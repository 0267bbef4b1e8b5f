//! Scanners find no problems on either port: testssl.sh and sslscan report nothing worse than information.
//!
//! The server's certificate is like one from Let's Encrypt, issued by an authority that testssl.sh is configured to trust, so
//! that any finding is caused by the gateway.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use testing::certificates::{Certificate, Certificates};
use testing::run::run;
use testing::scene::ScriptedScene;
use testing::scripted::{Scripted, Wire};

/// Severities that are no fault.
const HARMLESS: [&str; 3] = ["DEBUG", "INFO", "OK"];

/// Reported faults that are accepted here.
const ACCEPTED: [(&str, &str); 3] = [
    (
        "HSTS",
        "it binds a whole host, with all its ports: not for one of its services to say; and nothing here is to be had in the clear",
    ),
    (
        "security_headers",
        "they are for pages: what it looks at is a refusal in JSON, and the page for people has its own",
    ),
    (
        "sessionresumption_ticket",
        "no finding: on a busy machine it leaves before TLS 1.3's ticket has come, and says that it could not look",
    ),
];

/// Checks that must be present and successful.
const RIGHT: [&str; 19] = [
    "SSLv2",
    "SSLv3",
    "TLS1_2",
    "TLS1_3",
    "cipherlist_NULL",
    "cipherlist_aNULL",
    "cipherlist_EXPORT",
    "cipherlist_LOW",
    "secure_renego",
    "secure_client_renego",
    "CRIME_TLS",
    "heartbleed",
    "CCS",
    "ticketbleed",
    "ROBOT",
    "POODLE_SSL",
    "SWEET32",
    "LOGJAM",
    "RC4",
];

struct Scanned {
    scene: ScriptedScene,
    _upstream: Scripted,
    certificates: Certificates,
    authority: Certificate,
}

impl Scanned {
    fn start() -> Self {
        let upstream = Scripted::start(|_, wire: &mut Wire| wire.answer("200 OK", "text/plain", b"welcome"));
        let certificates = Certificates::new();
        let authority = certificates.authority("authority");
        let server = certificates.server_as_of_lets_encrypt(&authority, "localhost");
        Self {
            scene: ScriptedScene::before_with(&upstream, |setup| setup.server = server),
            _upstream: upstream,
            certificates,
            authority,
        }
    }

    fn ports(&self) -> [SocketAddr; 2] {
        [self.scene.gateway.public(), self.scene.gateway.admin()]
    }

    /// Returns the findings of testssl.sh: id, severity and text.
    fn testssl(&self, port: SocketAddr) -> Vec<[String; 3]> {
        let report = self.certificates.folder().join(format!("{}.json", port.port()));
        let mut command = Command::new("timeout");
        command
            .args(["900", "testssl", "--warnings", "off", "--nodns", "none", "--color", "0"])
            .args([
                "--protocols",
                "--std",
                "--fs",
                "--server-preference",
                "--server-defaults",
            ])
            .args(["--headers", "--vulnerable"])
            .arg("--add-ca")
            .arg(&self.authority.certificate)
            .arg("--jsonfile-pretty")
            .arg(&report)
            .arg(format!("https://localhost:{}", port.port()));
        let output = run(&mut command);
        let text = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("no report ({error}): {output}"));
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        of_server(&report)
    }
}

/// Returns the findings about the server. Those about testssl.sh and its OpenSSL are in `clientProblem1` and the
/// like, beside the `scanResult`.
fn of_server(report: &Value) -> Vec<[String; 3]> {
    findings(&report["scanResult"])
}

/// Returns all findings in this part of a report, at any depth.
fn findings(part: &Value) -> Vec<[String; 3]> {
    match part {
        Value::Array(parts) => parts.iter().flat_map(findings).collect(),
        Value::Object(finding) if finding.contains_key("severity") => {
            let field = |name: &str| part[name].as_str().unwrap_or_default().to_owned();
            vec![["id", "severity", "finding"].map(field)]
        }
        Value::Object(parts) => parts.values().flat_map(findings).collect(),
        _ => Vec::new(),
    }
}

/// Returns all findings that are neither harmless nor accepted, and all missing checks.
fn faults(findings: &[[String; 3]]) -> Vec<String> {
    let bad = findings.iter().filter(|[id, severity, _]| {
        let is_accepted = ACCEPTED.iter().any(|(accepted, _)| accepted == id);
        !HARMLESS.contains(&severity.as_str()) && !is_accepted
    });
    let is_right = |wanted: &str| {
        findings
            .iter()
            .any(|[id, severity, _]| id == wanted && severity == "OK")
    };
    let missing = RIGHT.iter().filter(|wanted| !is_right(wanted));
    bad.map(|[id, severity, finding]| format!("{severity} {id}: {finding}"))
        .chain(missing.map(|id| format!("{id} is not found to be right")))
        .collect()
}

#[test]
fn problems_of_testssl_itself_are_not_findings() {
    let finding = |id: &str, severity: &str| json!({"id": id, "severity": severity, "finding": "so"});
    let report = json!({
        "clientProblem1": [finding("engine_problem", "WARN")],
        "clientProblem2": [finding("too_old_openssl", "WARN")],
        "scanResult": [
            finding("scanProblem", "FATAL"),
            {
                "targetHost": "localhost",
                "protocols": [finding("SSLv3", "HIGH"), finding("TLS1_3", "OK")],
                "serverDefaults": [finding("OCSP_stapling", "WARN")],
            },
        ],
    });
    let faults = faults(&of_server(&report));
    let found: Vec<&str> = faults.iter().filter_map(|fault| fault.strip_suffix(": so")).collect();
    assert_eq!(found, ["FATAL scanProblem", "HIGH SSLv3", "WARN OCSP_stapling"]);
    assert!(
        !faults.contains(&"TLS1_3 is not found to be right".to_owned()),
        "{faults:?}"
    );
    assert!(
        faults.contains(&"SSLv2 is not found to be right".to_owned()),
        "{faults:?}"
    );
}

#[test]
fn testssl_finds_nothing_worse_than_information() {
    let scanned = Scanned::start();
    thread::scope(|scope| {
        let scanned = &scanned;
        let scans = scanned.ports().map(|port| scope.spawn(move || scanned.testssl(port)));
        for (port, scan) in ["public", "admin"].iter().zip(scans) {
            let findings = scan.join().unwrap();
            let faults = faults(&findings);
            assert!(faults.is_empty(), "on the {port} port: {faults:#?}\nof {findings:#?}");
        }
    });
}

#[test]
fn sslscan_finds_strong_ciphers_only() {
    let scanned = Scanned::start();
    for port in scanned.ports() {
        let printed = run(Command::new("sslscan").args(["--no-colour", &port.to_string()])).ok();
        let has = |line: &str| {
            printed
                .lines()
                .any(|other| other.split_whitespace().eq(line.split_whitespace()))
        };
        for line in [
            "SSLv2 disabled",
            "SSLv3 disabled",
            "TLSv1.0 disabled",
            "TLSv1.1 disabled",
            "TLSv1.2 enabled",
            "TLSv1.3 enabled",
            "Session renegotiation not supported",
            "TLSv1.3 not vulnerable to heartbleed",
            "TLSv1.2 not vulnerable to heartbleed",
        ] {
            assert!(has(line), "no line {line:?} in {printed}");
        }
        let mut ciphers: Vec<&str> = Vec::new();
        for line in printed.lines() {
            if let ["Accepted" | "Preferred", _, _, _, cipher, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
                ciphers.push(cipher);
            }
        }
        assert_eq!(
            ciphers,
            [
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ],
            "{printed}"
        );
    }
}
