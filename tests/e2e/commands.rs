//! The commands report their result in the exit code, and bind no port before the configuration is validated.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use testing::gateway::binary;

fn incus_gate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Creates a folder with a certificate and a proxy.toml with this public address.
fn folder(public: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(folder.path().join("gate.crt"), certificate.pem()).expect("written");
    fs::write(folder.path().join("gate.key"), key.serialize_pem()).expect("written");
    let config = format!(
        r#"[tls]
certificate = "gate.crt"
private_key = "gate.key"
[upstream]
url = "https://127.0.0.1:1"
client_certificate = "gate.crt"
client_private_key = "gate.key"
[public]
listen = "{public}"
[admin]
listen = "127.0.0.1:0"
[status]
socket = "status.sock"
"#
    );
    fs::write(folder.path().join("proxy.toml"), config).expect("written");
    folder
}

#[test]
fn wrong_usage_exits_with_64_and_help_with_0() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for wrong in [&[][..], &["fly"], &["run", "--confg", "x"], &["run", "x"]] {
        let output = incus_gate(folder.path(), wrong);
        assert_eq!(code(&output), 64, "{wrong:?}");
        assert!(
            stderr(&output).contains("Usage: incus-gate"),
            "{wrong:?}: {}",
            stderr(&output)
        );
    }
    for right in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert_eq!(code(&incus_gate(folder.path(), right)), 0, "{right:?}");
    }
}

#[test]
fn an_invalid_configuration_exits_with_78_before_binding() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = folder(&taken.local_addr().expect("its address").to_string());
    fs::write(folder.path().join("gate.key"), "not a key").expect("written");
    for command in ["run", "check"] {
        let output = incus_gate(folder.path(), &[command]);
        assert_eq!(code(&output), 78, "{command}");
        // If it had bound a port first, the port in use would have caused the exit code 1.
        let key = folder.path().canonicalize().expect("it is there").join("gate.key");
        let expected = format!(
            "incus-gate: proxy.toml:3: tls.private_key: {} has no PRIVATE KEY block; specify the PEM file of the private key\n",
            key.display()
        );
        assert_eq!(stderr(&output), expected, "{command}");
        assert_eq!(stderr(&output).lines().count(), 1, "{command}");
    }
}

#[test]
fn a_missing_configuration_exits_with_78() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = incus_gate(folder.path(), &["run", "--config", "nowhere.toml"]);
    assert_eq!(code(&output), 78);
    assert!(
        stderr(&output).contains("cannot read the configuration nowhere.toml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_port_in_use_is_named_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = incus_gate(folder(&address).path(), &["run"]);
    assert_eq!(code(&output), 1);
    let expected = format!(
        "public.listen: cannot listen on {address}: Address already in use (os error 98); another process listens there"
    );
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn check_reports_that_incus_is_unavailable() {
    let output = incus_gate(folder("127.0.0.1:0").path(), &["check", "--config", "proxy.toml"]);
    assert_eq!(code(&output), 1);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        report
            .contains("FAIL  Incus at https://127.0.0.1:1: cannot connect to Incus at 127.0.0.1:1: Connection refused"),
        "{report}"
    );
    assert!(report.contains("ok    public.listen: free"), "{report}");
    assert!(report.contains("warn  admin.clients: no client is listed"), "{report}");
    assert!(
        report.contains("warn  upstream.server_certificate: not set"),
        "{report}"
    );
}

#[test]
fn check_exits_normally_when_its_output_is_closed() {
    let output = Command::new("bash")
        .args(["-c", "\"$0\" check | true; exit ${PIPESTATUS[0]}", binary()])
        .current_dir(folder("127.0.0.1:0").path())
        .output()
        .expect("bash runs");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_fails_where_run_would() {
    // No machine has an address for documentation (RFC 5737).
    let output = incus_gate(folder("192.0.2.1:1").path(), &["check"]);
    assert_eq!(code(&output), 1);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        report.contains("FAIL  public.listen: cannot listen on 192.0.2.1:1"),
        "{report}"
    );
}

#[test]
fn commands_find_the_gateway_by_any_configuration_path() {
    let folder = folder("127.0.0.1:0");
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let absolute = folder.path().join("proxy.toml");
    let absolute = absolute.to_str().expect("a plain path");
    let named: [(&Path, &[&str]); 5] = [
        (folder.path(), &[]),
        (folder.path(), &["--config", "proxy.toml"]),
        (folder.path(), &["--config", "./proxy.toml"]),
        (&elsewhere, &["--config", "../proxy.toml"]),
        (&elsewhere, &["--config", absolute]),
    ];
    for (from, arguments) in named {
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_incus-gate"))
            .arg("run")
            .args(arguments)
            .current_dir(from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(gateway.stderr.take().expect("piped")).lines();
        let ready = log.by_ref().map_while(Result::ok).find(|line| line.ends_with(" ready"));
        let mut results = Vec::new();
        for (from, arguments) in named {
            // The responses come from the gateway; there is no Incus.
            for (command, answer) in [
                ("status", "cannot connect to Incus"),
                ("images", "the image list is currently unavailable"),
            ] {
                let output = incus_gate(from, &[&[command], arguments].concat());
                let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
                results.push((answer, text));
            }
        }
        let check = incus_gate(from, &[&["check"], arguments].concat());
        gateway.kill().expect("it is ours");
        gateway.wait().expect("it is ours");
        assert!(ready.is_some(), "{arguments:?}");
        for (answer, output) in results {
            assert!(output.contains(answer), "{arguments:?}: {output}");
        }
        assert_eq!(code(&check), 1, "{arguments:?}: {}", stderr(&check));
    }
}
