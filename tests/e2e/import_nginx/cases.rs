//! Small configurations and what must result from them.

use std::net::SocketAddr;

use incus_gate::config::Config;

use super::machine::Machine;

/// Abbreviations for what every configuration has.
const SHORT: [(&str, &str); 5] = [
    (
        "$TLS",
        "ssl_certificate /etc/nginx/certs/server.crt; ssl_certificate_key /etc/nginx/certs/server.key;",
    ),
    ("$UP", "proxy_pass https://127.0.0.1:8443; $SHOWN"),
    (
        "$SHOWN",
        "proxy_ssl_certificate /etc/nginx/certs/local.crt; proxy_ssl_certificate_key /etc/nginx/certs/local.key;",
    ),
    (
        "$ASKED",
        "ssl_client_certificate /etc/nginx/certs/ops.crt; ssl_verify_client on;",
    ),
    (
        "$PUBLIC",
        "server { listen 8554 ssl; $TLS location /1.0 { limit_except GET { deny all; } $UP } }",
    ),
];

/// Expands the abbreviations.
pub(super) fn long(text: &str) -> String {
    let mut text = text.to_owned();
    for (short, long) in SHORT.into_iter().rev().chain(SHORT) {
        text = text.replace(short, long);
    }
    text
}

/// The result of an import.
pub(super) struct Written {
    pub(super) code: i32,
    pub(super) stderr: String,
    pub(super) stdout: String,
    pub(super) public: Vec<SocketAddr>,
    pub(super) admin: Vec<SocketAddr>,
    /// Number of `[[admin.clients]]`.
    pub(super) admins: usize,
}

/// Imports a configuration, and asserts that the result can be loaded and that its addresses do not collide.
pub(super) fn imported(machine: &Machine, text: &str, arguments: &[&str]) -> Written {
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &long(text));
    let output = machine.import(&file, arguments);
    let code = output.status.code().expect("it ends by itself");
    let mut written = Written {
        code,
        stderr: output.stderr,
        stdout: output.stdout,
        public: Vec::new(),
        admin: Vec::new(),
        admins: 0,
    };
    if written.stdout.is_empty() {
        return written;
    }
    let table: toml::Table = written.stdout.parse().expect("it is TOML");
    let listens = |key: &str| -> Vec<SocketAddr> {
        let listen = &table[key]["listen"];
        let list = listen.as_array().cloned().unwrap_or_else(|| vec![listen.clone()]);
        list.iter()
            .map(|address| address.as_str().expect("a text").parse().expect("an address"))
            .collect()
    };
    (written.public, written.admin) = (listens("public"), listens("admin"));
    let clients = table["admin"].get("clients").and_then(toml::Value::as_array);
    written.admins = clients.map_or(0, Vec::len);
    let all = [written.public.as_slice(), &written.admin].concat();
    for (number, one) in all.iter().enumerate() {
        for other in &all[..number] {
            let is_one_any = one.ip().is_unspecified() || other.ip().is_unspecified() || one.ip() == other.ip();
            assert!(!is_one_any || one.port() != other.port(), "{one} {other}: {text}");
        }
    }
    // Missing values are reported; the file may have no other fault.
    let path = machine.write("proxy.toml", &written.stdout);
    if let Err(error) = Config::load(&path) {
        let error = error.to_string();
        assert!(
            code == 1
                && ["upstream", "tls", "missing"].iter().any(|word| error.contains(word))
                && !error.contains("both"),
            "{text}: {error}\n{}",
            written.stdout
        );
    }
    written
}

/// Returns whether only this machine can connect.
pub(super) fn is_local(listens: &[SocketAddr]) -> bool {
    listens.iter().all(|listen| listen.ip().is_loopback())
}

/// Configuration, exit code, `public.listen`, `admin.listen`, number of admins, texts in the report, texts not in it.
pub(super) type Row = (
    &'static str,
    i32,
    &'static str,
    &'static str,
    usize,
    &'static [&'static str],
    &'static [&'static str],
);

/// Imports each configuration, and compares the results.
#[track_caller]
pub(super) fn check_rows(table: &[Row]) {
    let machine = Machine::new();
    for (text, code, public, admin, admins, reported, unreported) in table {
        let written = imported(&machine, text, &[]);
        let all = format!("{text}\n{}\n{}", written.stderr, written.stdout);
        assert_eq!(written.code, *code, "{all}");
        assert_eq!(written.public, [public.parse().expect("an address")], "{all}");
        assert_eq!(written.admin, [admin.parse().expect("an address")], "{all}");
        assert_eq!(written.admins, *admins, "{all}");
        for sentence in *reported {
            assert!(written.stderr.contains(sentence), "{sentence}: {all}");
        }
        for sentence in *unreported {
            assert!(!written.stderr.contains(sentence), "{sentence}: {all}");
        }
    }
}
