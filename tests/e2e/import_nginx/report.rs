//! The report names the worst finding first, claims no success that is not certain, and stays short.

use super::cases::{imported, is_local};
use super::machine::Machine;

#[test]
fn an_open_unix_socket_comes_first() {
    let machine = Machine::new();
    let route = "location / { proxy_pass http://unix:/var/lib/incus/unix.socket:/; }";
    let written = imported(&machine, &format!("server {{ listen 8554 ssl; $TLS {route} }}"), &[]);
    assert_eq!(written.code, 1);
    let first = written
        .stderr
        .lines()
        .find(|line| line.starts_with("  - "))
        .expect("a finding");
    assert!(first.contains("every client here is root on this machine"), "{first}");
    assert!(
        !written.stderr.contains("treated admins as strangers"),
        "{}",
        written.stderr
    );

    let written = imported(
        &machine,
        &format!("server {{ listen 8554 ssl; $TLS $ASKED {route} }}"),
        &[],
    );
    assert_eq!(written.code, 1);
    for unsaid in ["treated admins as strangers", "is root on this machine"] {
        assert!(!written.stderr.contains(unsaid), "{}", written.stderr);
    }
}

#[test]
fn unrecognised_servers_are_reported_as_such() {
    let machine = Machine::new();
    let text = "server { listen 8554 ssl; $TLS location / { proxy_pass https://127.0.0.1:8443; } }";
    let written = imported(&machine, text, &[]);
    assert_eq!(written.code, 1);
    assert!(
        written
            .stderr
            .contains("run this again with `--incus https://127.0.0.1:8443`"),
        "{}",
        written.stderr
    );
    for unsaid in ["What gets better", "Nothing is lost"] {
        assert!(!written.stderr.contains(unsaid), "{}", written.stderr);
    }
    for url in ["https://127.0.0.1:8443", "https://127.0.0.1:8443/", "127.0.0.1"] {
        let written = imported(&machine, text, &["--incus", url]);
        assert!(
            written.stdout.contains("\nurl = \"https://127.0.0.1:8443\""),
            "{}",
            written.stdout
        );
        assert_eq!(written.public, ["0.0.0.0:8554".parse().expect("an address")]);
    }
    let text = "map $host $to { default 127.0.0.1:8443; } server { listen 8554 ssl; $TLS location /1.0 { proxy_pass https://$to; $SHOWN } }";
    let written = imported(&machine, text, &["--incus", "https://127.0.0.1:8443"]);
    // Some of its requests may have gone elsewhere.
    assert!(written.code == 1 && is_local(&written.public), "{}", written.stderr);
    assert!(
        written.stdout.contains("\nurl = \"https://127.0.0.1:8443\""),
        "{}",
        written.stdout
    );
    let written = imported(&machine, text, &["--incus", "not a url"]);
    assert_eq!(written.code, 64, "{}", written.stderr);
}

#[test]
fn many_findings_of_a_kind_are_one_line() {
    let machine = Machine::new();
    let conditions: String = (0..60)
        .map(|number| format!("if ($http_user_agent ~ bot{number}) {{ return 403; }}\n"))
        .collect();
    let text = format!("server {{ listen 8554 ssl; $TLS\n{conditions}location /1.0 {{ $UP }} }}");
    let written = imported(&machine, &text, &[]);
    assert!(written.stderr.lines().count() < 30, "{}", written.stderr);
    let first = written
        .stderr
        .lines()
        .find(|line| line.starts_with("  - "))
        .expect("a finding");
    assert!(
        first.contains("bot0)") && first.contains(" and 57 more. Decide"),
        "{first}"
    );
}
