//! A `proxy.toml`, next to the certificates and keys `gate` and `other`.
//!
//! The result is a configuration whose values are all within the documented ranges, or an error that names the file and, if
//! possible, one of its lines.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use incus_gate::config::{Config, ConfigError, is_admin_name};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = folder();
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["gate", "other"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join(format!("{name}.crt")), certificate.pem()).expect("the file can be written");
        fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).expect("the file can be written");
    }
    folder
}

pub fn holds(data: &[u8]) {
    let path = FOLDER.with(|folder| folder.path().join("proxy.toml"));
    fs::write(&path, data).expect("the file can be written");
    match Config::load(&path) {
        Ok(config) => is_within_bounds(&config),
        Err(error) => names_its_place(&error, &path.display().to_string(), data),
    }
}

fn names_its_place(error: &ConfigError, file: &str, data: &[u8]) {
    let message = error.to_string();
    assert!(message.contains(file), "{message}");
    if let ConfigError::Wrong { place, problem } = error {
        let line = place.strip_prefix(file).expect("the place begins with the file");
        let line = line.strip_prefix(':').map(|line| line.parse().expect("a number"));
        let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
        assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{message}");
        assert!(!problem.is_empty());
    }
}

fn is_within_bounds(config: &Config) {
    let limits = config.limits;
    let durations = [
        limits.handshake_timeout,
        limits.header_timeout,
        limits.idle_timeout,
        limits.send_grace,
        limits.drain_timeout,
        config.public.max_age,
        config.public.stale_if_error,
        config.reload_interval,
    ];
    for duration in durations {
        assert!(
            (Duration::from_millis(1)..=Duration::from_hours(24)).contains(&duration),
            "{duration:?}"
        );
    }
    assert!((8 << 10..=1 << 20).contains(&limits.max_header_size));
    assert!((4..=1_000_000).contains(&limits.max_connections));
    assert!(limits.reserved_admin_connections >= 1 && limits.reserved_admin_connections <= limits.max_connections / 2);
    assert!((1..=1_000_000).contains(&limits.max_connections_per_address));
    assert!((1..=1_000_000).contains(&limits.requests_per_second));
    assert!((1..=1 << 20).contains(&limits.min_send_rate));

    let mut bound = HashSet::new();
    let ports = [
        (true, &config.public.listen),
        (true, &config.admin.listen),
        (false, &config.metrics),
    ];
    for (must_be, listen) in ports {
        assert!(!(must_be && listen.is_empty()));
        for address in listen {
            assert!(address.port() == 0 || bound.insert(address), "{address} twice");
        }
    }

    let clients = &config.admin.clients;
    let names: HashSet<_> = clients.iter().map(|client| &client.name).collect();
    let fingerprints: HashSet<_> = clients
        .iter()
        .map(|client| client.known_by.fingerprint().to_string())
        .collect();
    assert_eq!([names.len(), fingerprints.len()], [clients.len(); 2]);
    assert!(names.iter().all(|name| is_admin_name(name)));

    let title = config.public.page.as_ref().and_then(|page| page.title.as_ref());
    assert!(title.is_none_or(|title| !title.contains(char::is_control) && title.chars().count() <= 100));
    let upstream = &config.upstream;
    assert!(upstream.url.starts_with("https://") || upstream.url.to_ascii_lowercase().starts_with("https://"));
    assert!(http::HeaderValue::from_str(&upstream.authority).is_ok());
    assert!(
        upstream
            .authority
            .parse::<http::uri::Authority>()
            .is_ok_and(|it| it.port_u16() == Some(upstream.port))
    );
    let is_here =
        upstream.host == "localhost" || upstream.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    assert!(
        is_here || upstream.pin.certificate().is_some(),
        "{} could be anybody",
        upstream.host
    );
}
