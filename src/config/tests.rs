use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge::cidr::CidrSet;
use edge::telemetry::log::LogFormat;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::error::Source;
use super::*;

/// Creates a directory with the pair `gate.crt` and `gate.key`, and `other.crt` from another pair.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("temporary directory");
    for name in ["gate", "other"] {
        let key = KeyPair::generate().expect("key pair");
        let certificate = CertificateParams::new(["localhost".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("certificate");
        fs::write(folder.path().join(format!("{name}.crt")), certificate.pem()).expect("file is writable");
        fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).expect("file is writable");
    }
    folder
}

const SMALLEST: &str = r#"[tls]
certificate = "gate.crt"
private_key = "gate.key"
[upstream]
client_certificate = "gate.crt"
client_private_key = "gate.key"
"#;

fn load(text: &str) -> Result<Config, String> {
    let folder = folder();
    let path = folder.path().join("proxy.toml");
    fs::write(&path, text).expect("file is writable");
    let folder = folder.path().display().to_string();
    let inside = format!("{folder}/");
    Config::load(&path).map_err(|error| error.to_string().replace(&inside, "").replace(&folder, "."))
}

fn message(text: &str) -> String {
    load(text).expect_err("this configuration is wrong")
}

#[test]
fn only_certificates_have_no_default() {
    let config = load(SMALLEST).expect("minimal configuration is valid");
    assert_eq!(config.public.listen, ["[::]:8554".parse().unwrap()]);
    assert_eq!(config.admin.listen, ["[::]:8555".parse().unwrap()]);
    assert_eq!(config.public.images, Visibility::Public);
    assert_eq!(config.public.proxies, CidrSet::default());
    assert!(!config.upstream.proxy_protocol);
    assert_eq!(
        (config.upstream.host.as_str(), config.upstream.port),
        ("127.0.0.1", 8553)
    );
    assert_eq!(config.public.max_age, Duration::from_secs(1));
    let limits = config.limits;
    assert_eq!(
        (limits.max_header_size, limits.idle_timeout),
        (65_536, Duration::from_mins(1))
    );
    assert_eq!((limits.max_connections, limits.reserved_admin_connections), (4096, 64));
    assert_eq!(
        (limits.max_connections_per_address, limits.requests_per_second),
        (256, 50)
    );
    assert_eq!(limits.min_send_rate, 4096);
    assert!(config.public.access.permits([192, 0, 2, 1].into()));
    assert_eq!(config.reload_interval, Duration::from_mins(1));
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("info", LogFormat::Text)
    );
    assert_eq!(config.log.audit_file, None);
    assert!(config.upstream.pin.certificate().is_none());
    assert!(config.metrics.is_empty(), "off");
    assert_eq!((config.store, config.public.simplestreams), (None, false));
    assert_eq!(config.public.file_max_age, Duration::from_hours(1));
    let config = load(&format!("{SMALLEST}[store]\n")).expect("[store] without keys is valid");
    let store = config.store.expect("[store] enables it");
    assert_eq!(
        (store.directory.as_path(), store.size),
        (Path::new("/var/cache/incus-gate"), 20 << 30)
    );
    let config = load(&format!("{SMALLEST}[metrics]\n")).expect("[metrics] without keys is valid");
    assert_eq!(config.metrics, ["127.0.0.1:9555".parse().unwrap()]);
}

#[test]
fn every_key_is_parsed() {
    let text = SMALLEST.replace(
        "[upstream]",
        "[upstream]\nurl = \"https://[::1]:8443/\"\nproxy_protocol = true\nserver_certificate = \"other.crt\"",
    );
    let config = load(&format!(
        r#"{text}
[public]
listen = ["127.0.0.1:1", "[::1]:1"]
proxy_protocol_from = ["192.0.2.0/24", "2001:db8::1"]
images = "all"
page = false
title = "Ours"
max_age = "250ms"
stale_if_error = "2m"
simplestreams = true
file_max_age = "365d"
deny = "192.0.2.0/24"
[public.tls]
certificate = "other.crt"
private_key = "other.key"
[admin]
listen = "127.0.0.1:2"
allow = ["192.0.2.1", "2001:db8::/32"]
[[admin.clients]]
name = "ops"
certificate = "gate.crt"
[[admin.clients]]
name = "ci"
fingerprint = "{}"
[limits]
handshake_timeout = "1s"
header_timeout = "2s"
max_header_size = "8KiB"
idle_timeout = "2m"
max_connections = 100
reserved_admin_connections = 50
max_connections_per_address = 10
requests_per_second = 20
min_send_rate = "1KiB"
send_grace = "1m"
drain_timeout = "1h"
[log]
level = "warn,incus_gate=debug"
format = "json"
audit_file = "audit.log"
[metrics]
listen = "127.0.0.1:3"
[reload]
interval = "5m"
[status]
socket = "status.sock"
[store]
directory = "store"
size = "2TiB"
"#,
        "AB:".repeat(31) + "cd"
    ))
    .expect("complete configuration is valid");
    assert_eq!(config.public.listen.len(), 2);
    assert_eq!(config.public.images, Visibility::All);
    assert!(config.public.proxies.contain([192, 0, 2, 9].into()));
    assert!(config.upstream.proxy_protocol);
    assert!(!config.public.access.permits([192, 0, 2, 1].into()));
    assert!(config.admin.access.permits([192, 0, 2, 1].into()));
    assert!(!config.admin.access.permits([192, 0, 2, 2].into()));
    let limits = config.limits;
    assert_eq!((limits.max_connections, limits.reserved_admin_connections), (100, 50));
    assert_eq!(
        (limits.max_connections_per_address, limits.requests_per_second),
        (10, 20)
    );
    assert_eq!(
        (limits.min_send_rate, limits.idle_timeout),
        (1024, Duration::from_mins(2))
    );
    assert!(config.public.page.is_none());
    assert_ne!(config.public.tls.certificate(), config.admin.tls.certificate());
    assert_eq!(
        config.admin.clients[1].known_by.fingerprint().to_string(),
        "ab".repeat(31) + "cd"
    );
    assert_eq!((config.upstream.host.as_str(), config.upstream.port), ("::1", 8443));
    assert!(config.upstream.pin.certificate().is_some());
    assert_eq!(config.metrics, ["127.0.0.1:3".parse().unwrap()]);
    assert_eq!(config.reload_interval, Duration::from_mins(5));
    assert!(
        config
            .status_socket
            .is_some_and(|socket| socket.is_absolute() && socket.ends_with("status.sock"))
    );
    assert_eq!(config.log.format, LogFormat::Json);
    let store = config.store.expect("[store] enables it");
    assert!(store.directory.is_absolute() && store.directory.ends_with("store") && !store.directory.exists());
    assert_eq!(store.size, 2 << 40);
    assert!(config.public.simplestreams);
    assert_eq!(config.public.file_max_age, Duration::from_hours(365 * 24));
    let audit = config.log.audit_file.expect("audit_file is set");
    assert!(audit.ends_with("audit.log") && !audit.exists(), "it is not made yet");
    let files: Vec<_> = config.files.paths().filter_map(|path| path.file_name()).collect();
    assert_eq!(files, ["gate.crt", "gate.key", "other.crt", "other.key"]);
}

/// All keys whose value is a path, each with a file name.
const PATHS: &str = r#"[tls]
certificate = "tls.crt"
private_key = "tls.key"
[upstream]
client_certificate = "client.crt"
client_private_key = "client.key"
server_certificate = "incus.crt"
[admin.tls]
certificate = "admin.crt"
private_key = "admin.key"
[[admin.clients]]
name = "ops"
certificate = "ops.crt"
[log]
audit_file = "audit.log"
[status]
socket = "status.sock"
[store]
directory = "store.folder"
"#;

#[test]
fn relative_paths_start_at_the_configurations_directory() {
    let fields = include_str!("schema.rs").matches("Spanned<PathBuf>").count();
    assert_eq!(fields, 9, "a new key with a path belongs into PATHS");
    let folder = folder();
    for name in ["tls", "client", "incus", "admin", "ops"] {
        for end in ["crt", "key"] {
            let to = folder.path().join(format!("{name}.{end}"));
            fs::copy(folder.path().join(format!("gate.{end}")), to).expect("file is writable");
        }
    }
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).expect("directory is created");
    let names: Vec<&str> = PATHS
        .split('"')
        .filter(|name| name.contains('.') && !name.contains('\n'))
        .collect();
    assert_eq!(names.len(), 11);
    let here = std::env::current_dir().expect("directory exists");
    let to_root: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let from_here = |path: &Path| to_root.join(path.strip_prefix("/").expect("absolute path"));
    for (place, spelled) in [(".", ""), (".", "./"), ("sub", "../")] {
        let mut text = PATHS.to_owned();
        for name in &names {
            text = text.replace(&format!("\"{name}\""), &format!("\"{spelled}{name}\""));
        }
        let path = folder.path().join(place).join("proxy.toml");
        fs::write(&path, text).expect("file is writable");
        for path in [from_here(&path), path] {
            let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                Config::status_socket(&path).expect("valid status.socket"),
                config.status_socket
            );
            let written = config.status_socket.into_iter().chain(config.log.audit_file);
            let written = written.chain(config.store.map(|store| store.directory));
            let paths: Vec<PathBuf> = config.files.paths().map(Path::to_owned).chain(written).collect();
            assert_eq!(paths.len(), names.len(), "{paths:?}");
            for path in paths {
                assert!(path.is_absolute(), "{}", path.display());
                let parent = path
                    .parent()
                    .expect("directory exists")
                    .canonicalize()
                    .expect("directory exists");
                assert_eq!(
                    parent,
                    folder.path().canonicalize().expect("directory exists"),
                    "{}",
                    path.display()
                );
            }
        }
    }
    for path in ["proxy.toml", "./proxy.toml"] {
        let source = Source::new(Path::new(path), String::new());
        for spelled in ["status.sock", "./status.sock"] {
            assert_eq!(source.beside(Path::new(spelled)), here.join("status.sock"));
        }
    }
}

#[test]
fn the_example_loads() {
    let folder = folder();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml.example"))
        .expect("the example is readable");
    fs::create_dir(folder.path().join("certs")).expect("directory is created");
    let mut at_home = String::new();
    for line in text.lines() {
        // Replace certificates and keys with existing ones, and keep everything else.
        let file = |key: &str| line.trim_start().starts_with(key);
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let key = rest.split(' ').next().unwrap_or_default();
        at_home += &match () {
            () if file("certificate =") || file("client_certificate =") || file("server_certificate =") => {
                format!("{indent}{key} = \"gate.crt\"")
            }
            () if file("private_key =") || file("client_private_key =") => format!("{indent}{key} = \"gate.key\""),
            () => line.to_owned(),
        };
        at_home.push('\n');
    }
    let path = folder.path().join("proxy.toml");
    fs::write(&path, at_home).expect("file is writable");
    Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_invalid_file_produces_one_message() {
    let with = |old: &str, new: &str| message(&SMALLEST.replacen(old, new, 1));
    let and = |more: &str| message(&format!("{SMALLEST}{more}"));
    let client = |more: &str| and(&format!("[[admin.clients]]\n{more}\n"));
    let messages = [
        message(""),
        message("tls = 5"),
        message("[tls"),
        message("[tls]\ncertificate = \"gate.crt\"\n"),
        with("[tls]\ncertificate = \"gate.crt\"\nprivate_key = \"gate.key\"\n", ""),
        with("gate.crt", "none.crt"),
        with("gate.crt", "gate.key"),
        with("gate.crt", "other.crt"),
        with("gate.crt", "proxy.toml"),
        with("gate.key", "gate.crt"),
        with("private_key = \"gate.key\"", "private_key = \"none.key\""),
        with("client_private_key = \"gate.key\"", "client_private_key = \"gate.crt\""),
        with(
            "client_certificate = \"gate.crt\"",
            "client_certificate = \"other.crt\"",
        ),
        with("[upstream]", "[upstream]\nurl = \"http://127.0.0.1:8553\""),
        with("[upstream]", "[upstream]\nurl = \"https://127.0.0.1\""),
        with("[upstream]", "[upstream]\nurl = \"https://127.0.0.1:99999\""),
        with("[upstream]", "[upstream]\nurl = \"https://127.0.0.1:8553/1.0\""),
        with("[upstream]", "[upstream]\nurl = \"https://root@127.0.0.1:8553\""),
        with("[upstream]", "[upstream]\nurl = \"https://192.0.2.1:8553\""),
        with("[upstream]", "[upstream]\nurl = \"https://127.0.0.1:8555\""),
        with("[upstream]", "[upstream]\nserver_certificate = \"gate.key\""),
        and("[publik]\n"),
        and("[public]\nlissten = \"[::]:1\"\n"),
        and("[public]\nlisten = 8554\n"),
        and("[public]\nlisten = \"8554\"\n"),
        and("[public]\nlisten = []\n"),
        and("[public]\nlisten = [\"[::]:1\", \"[::]:1\"]\n"),
        and("[public]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:1\"\n"),
        and("[public]\nlisten = \"0.0.0.0:1\"\n[admin]\nlisten = [\"127.0.0.1:2\", \"127.0.0.1:1\"]\n"),
        and("[public]\nlisten = [\"0.0.0.0:1\", \"127.0.0.1:1\"]\n"),
        and("[public]\nlisten = \"192.0.2.1:8555\"\n"),
        and("[public]\nlisten = [\"[::ffff:127.0.0.1]:1\", \"127.0.0.1:1\"]\n"),
        and("[public]\nproxy_protocol_from = true\n"),
        and("[public]\nproxy_protocol_from = \"proxy.example.org\"\n"),
        and("[admin]\nproxy_protocol_from = [\"192.0.2.1/24\"]\n"),
        and("[admin]\nproxy_protocol_from = \"::ffff:192.0.2.1\"\n"),
        and("[public]\nimages = \"some\"\n"),
        and("[public]\npage = \"no\"\n"),
        and("[public]\ntitle = \"\"\n"),
        and("[public]\nmax_age = \"soon\"\n"),
        and("[public]\nmax_age = \"0s\"\n"),
        and("[public]\nmax_age = 1\n"),
        and("[public]\nstale_if_error = \"99999999999999999999h\"\n"),
        and("[public]\nsimplestreams = true\n"),
        and("[public]\nsimplestreams = \"yes\"\n[store]\n"),
        and("[public]\nfile_max_age = \"10ms\"\n"),
        and("[public]\nfile_max_age = \"366d\"\n"),
        and("[store]\nsize = \"20GB\"\n"),
        and("[store]\nsize = \"63MiB\"\n"),
        and("[store]\nsize = \"99999999999999999999TiB\"\n"),
        and("[store]\nsize = 20\n"),
        and("[store]\ndirectory = \"\"\n"),
        and("[store]\ndirectory = 5\n"),
        and("[store]\ndirectory = \".\"\n"),
        and("[store]\nfolder = \"store\"\n"),
        message(&format!("store = \"/var/cache\"\n{SMALLEST}")),
        and("[limits]\nmax_header_size = \"64kb\"\n"),
        and("[limits]\nmax_header_size = \"1KiB\"\n"),
        and("[limits]\nmax_connections = 3\n"),
        and("[limits]\nmax_connections = -1\n"),
        and("[limits]\nmax_connections = \"100\"\n"),
        and("[limits]\nmax_connections = 100\nreserved_admin_connections = 51\n"),
        and("[limits]\nreserved_admin_connections = 1\n"),
        and("[limits]\nmax_connections_per_address = 0\n"),
        and("[limits]\nrequests_per_second = 0\n"),
        and("[limits]\nmin_send_rate = \"0B\"\n"),
        and("[public]\ndeny = \"192.0.2.0/33\"\n"),
        and("[admin]\nallow = [\"192.0.2.1/24\"]\n"),
        and("[log]\nlevel = \"loud=very=much\"\n"),
        and("[log]\nlevel = \"warning\"\n"),
        and("[log]\nlevel = \"info,incus_gate\"\n"),
        and("[log]\nformat = \"xml\"\n"),
        and("[log]\naudit_file = \"none/audit.log\"\n"),
        and("[log]\naudit_file = \".\"\n"),
        and("[metrics]\nlisten = \"9555\"\n"),
        and("[metrics]\nlisten = \"[::]:8555\"\n"),
        and("[admin.clients]\nname = \"ops\"\n"),
        client("name = 5"),
        client("name = \"ops\""),
        client("name = \"ops\"\ncertificate = \"none.crt\""),
        client("name = \"ops\"\ncertificate = \"gate.crt\"\nfingerprint = \"ab\""),
        client("name = \"ops\"\nfingerprint = \"ab\""),
        client("name = \"o p s\"\ncertificate = \"gate.crt\""),
        client(
            "name = \"ops\"\ncertificate = \"gate.crt\"\n[[admin.clients]]\nname = \"ops\"\ncertificate = \"other.crt\"",
        ),
        client(
            "name = \"ops\"\ncertificate = \"gate.crt\"\n[[admin.clients]]\nname = \"ci\"\ncertificate = \"gate.crt\"",
        ),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn the_upstream_url_has_nothing_after_the_port() {
    let load = |url: &str| load(&SMALLEST.replace("[upstream]", &format!("[upstream]\nurl = \"{url}\"")));
    for url in [
        "https://127.0.0.1:8553",
        "https://127.0.0.1:8553/",
        "HTTPS://127.0.0.1:8553",
    ] {
        assert_eq!(
            load(url).expect("valid URL").upstream.authority,
            "127.0.0.1:8553",
            "{url}"
        );
    }
    for url in ["https://127.0.0.1:8553#a", r"https://127.0.0.1:8553/#\n"] {
        assert!(
            load(url).expect_err("no URL").contains("must end after the port"),
            "{url}"
        );
    }
}

#[test]
fn an_unknown_key_is_rejected_with_the_nearest_known_one() {
    for (table, key, meant) in [
        ("limits", "connections", "max_connections"),
        ("limits", "download_rate", "min_send_rate"),
        ("limits", "drain", "drain_timeout"),
        ("limits", "head", "header_timeout"),
        ("limits", "head_size", "max_header_size"),
        ("limits", "idel_timeout", "idle_timeout"),
        ("limits", "requests", "requests_per_second"),
        ("limits", "stall", "send_grace"),
        ("log", "audit", "audit_file"),
        ("public", "refresh", "max_age"),
        ("public", "stale", "stale_if_error"),
        ("reload", "every", "interval"),
        ("store", "max_size", "size"),
    ] {
        let message = message(&format!("{SMALLEST}[{table}]\n{key} = 1\n"));
        let wanted = format!("unknown key `{key}`; did you mean `{meant}`?");
        assert!(message.contains(&wanted), "{message}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/proxy.toml")).expect_err("there is no such file");
    assert!(
        error
            .to_string()
            .starts_with("cannot read the configuration /nowhere/proxy.toml: No such file"),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[|\\]|=|\"|\n|tls|upstream|public|admin|clients|listen|name|[a-z0-9:. ]{1,4}){0,40}") {
        let _ = load(&text);
    }
}
