//! `check` warns of settings that will cause problems later, and says what to do; `run` logs the same warnings.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testing::certificates::{Certificate, Certificates};
use testing::disk::Disk;
use testing::gateway::{Gateway, binary};
use testing::incus::Incus;
use testing::run::{Output, run};
use testing::scene::Setup;

/// Returns a real Incus and a valid configuration.
fn valid_setup() -> (Incus, Setup, Certificates) {
    let certificates = Certificates::new();
    let mut setup = Setup::new(&certificates, "", Path::new(""));
    let incus = Incus::start(&[&setup.local]);
    setup.upstream = incus.url();
    setup.pin = Some(incus.server_certificate());
    (incus, setup, certificates)
}

fn check(setup: &Setup) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, setup.text()).unwrap();
    run(Command::new(binary()).args(["check", "--config"]).arg(file))
}

/// Returns the only warning about a working configuration.
#[track_caller]
fn warning(setup: &Setup) -> String {
    let report = check(setup).ok();
    let bad: Vec<_> = report.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert_eq!(bad.len(), 1, "{report}");
    bad[0].to_owned()
}

fn permit(certificate: &Certificate, mode: u32) {
    std::fs::set_permissions(&certificate.key, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_valid_setup_has_no_warning() {
    let (_incus, setup, _certificates) = valid_setup();
    let report = check(&setup).ok();
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");
    assert!(
        report.contains("ok    Incus's core.https_address: \"127.0.0.1:"),
        "{report}"
    );
    let gateway = Gateway::start(&setup.text());
    assert!(gateway.log().iter().all(|line| !line.contains("WARN")));
}

#[test]
fn certificates_that_expire_soon_are_reported() {
    let (incus, valid, certificates) = valid_setup();
    let soon = certificates.server_for_days("soon", 29);
    let late = certificates.server_for_days("late", 30);
    let mut setup = valid.clone();
    setup.server = late;
    check(&setup).ok();
    setup.server = soon.clone();
    let expires = "the certificate expires in 29 days; renew it";
    assert_eq!(warning(&setup), format!("warn  public.tls and admin.tls: {expires}"));

    // The certificate of one port only.
    let mut setup = valid.clone();
    setup.more = format!(
        "[admin.tls]\ncertificate = {:?}\nprivate_key = {:?}\n",
        soon.certificate, soon.key
    );
    assert_eq!(warning(&setup), format!("warn  admin.tls: {expires}"));
    // An admin's certificate.
    let mut setup = valid.clone();
    setup.admins[0].1 = soon.clone();
    assert_eq!(warning(&setup), format!("warn  admin.clients \"ops\": {expires}"));
    // The client certificate for Incus.
    let certificate = soon.certificate.to_str().unwrap();
    incus.run(&["config", "trust", "add-certificate", certificate]).ok();
    let mut setup = valid;
    setup.local = soon;
    assert_eq!(warning(&setup), format!("warn  upstream.client_certificate: {expires}"));
}

#[test]
fn a_private_key_readable_by_others_is_reported() {
    let (_incus, setup, _certificates) = valid_setup();
    // A group may be the gateway's own.
    permit(&setup.server, 0o640);
    permit(&setup.local, 0o640);
    check(&setup).ok();
    permit(&setup.server, 0o644);
    let file = setup.server.key.display();
    let expected = format!(
        "warn  public.tls and admin.tls: the private key in {file} is accessible to every user of this machine (mode 0644); run `chmod o= {file}`"
    );
    assert_eq!(warning(&setup), expected);
    permit(&setup.server, 0o600);
    permit(&setup.local, 0o602);
    let warned = warning(&setup);
    assert!(warned.starts_with("warn  upstream.client_private_key: "), "{warned}");
}

#[test]
fn a_wildcard_as_first_name_is_reported() {
    let (_incus, mut setup, certificates) = valid_setup();
    setup.server = certificates.server_for("second", &["gate.example.org", "*.example.org"]);
    check(&setup).ok();
    setup.server = certificates.server_for("first", &["127.0.0.1", "*.example.org", "gate.example.org"]);
    let warned = warning(&setup);
    assert!(
        warned.contains("the certificate's first name is *.example.org: "),
        "{warned}"
    );
    assert!(warned.ends_with("put a host name first"), "{warned}");
}

#[test]
fn a_slow_rsa_key_is_reported() {
    let (_incus, mut setup, certificates) = valid_setup();
    setup.server = certificates.openssl_rsa("rsa");
    let warned = warning(&setup);
    assert!(warned.contains("the private key is RSA with 2048 bits: "), "{warned}");
    assert!(warned.contains("--key-type ecdsa"), "{warned}");
}

#[test]
fn settings_that_trust_too_much_are_reported() {
    let (_incus, valid, _certificates) = valid_setup();
    let mut setup = valid.clone();
    setup.pin = None;
    assert!(warning(&setup).starts_with("warn  upstream.server_certificate: not set: "));
    let mut setup = valid;
    setup.more_admin = "proxy_protocol_from = [\"192.0.2.1\", \"0.0.0.0/0\"]".to_owned();
    assert!(warning(&setup).starts_with("warn  admin.proxy_protocol_from: it contains every address"));

    setup.more_admin.clear();
    setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    assert!(check(&setup).ok().contains("ok    metrics.listen: free"));
    setup.more = setup.more.replace("127.0.0.1", "0.0.0.0");
    assert!(warning(&setup).starts_with("warn  metrics.listen: it accepts connections from other machines"));
}

#[test]
fn the_stores_folder_and_size_are_checked() {
    let (_incus, mut setup, _certificates) = valid_setup();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    let table = |size: &str| format!("[store]\ndirectory = {directory:?}\nsize = \"{size}\"\n");
    setup.more = table("64MiB");
    let report = check(&setup).ok();
    assert!(
        report.contains("ok    store.directory: does not exist yet, and can be created\n"),
        "{report}"
    );
    assert!(
        report.contains("ok    store.size: 64 MiB; ") && report.contains(" MiB of the file system are free\n"),
        "{report}"
    );
    assert!(!directory.exists(), "root's folder would be of no use to the gateway");

    let gateway = Gateway::start(&setup.text());
    let report = check(&setup).ok();
    assert!(
        report.contains("ok    store.directory: in use by a running gateway\n"),
        "{report}"
    );
    drop(gateway);
    assert!(check(&setup).ok().contains("ok    store.directory: can be written\n"));

    setup.more = table("1000TiB");
    let warned = warning(&setup);
    assert!(
        warned.starts_with("warn  store.size: 1048576000 MiB, but the file system has only "),
        "{warned}"
    );
    // Folders that nobody may create, or write to.
    let disk = Disk::of("1m");
    let directory = disk.path().join("store");
    std::fs::create_dir(&directory).unwrap();
    disk.make_read_only();
    setup.more = format!("[store]\ndirectory = {:?}\n", disk.path().join("none"));
    let warned = warning(&setup);
    let place = disk.path().display();
    let cause = "Read-only file system (os error 30)";
    assert!(
        warned.starts_with(&format!(
            "warn  store.directory: it does not exist, and the current user cannot create it in {place}: {cause}; "
        )),
        "{warned}"
    );
    setup.more = format!("[store]\ndirectory = {directory:?}\n");
    let report = check(&setup);
    assert_eq!(report.status.code(), Some(1), "{report}");
    assert!(
        report.stdout.contains(&format!(
            "FAIL  store.directory: the current user cannot write to {}: {cause}; ",
            directory.display()
        )),
        "{report}"
    );
}

#[test]
fn an_incus_reachable_without_the_gateway_is_reported() {
    let (incus, setup, _certificates) = valid_setup();
    let port = incus.address().port();
    incus
        .run(&["config", "set", &format!("core.https_address=:{port}")])
        .ok();
    let expected = format!(
        "warn  Incus's core.https_address: \":{port}\": clients that can connect to it bypass the gateway; run `incus config set core.https_address=127.0.0.1:{port}` there, or allow only the gateway in a firewall"
    );
    assert_eq!(warning(&setup), expected);
    // Following the advice removes the warning.
    incus
        .run(&["config", "set", &format!("core.https_address=127.0.0.1:{port}")])
        .ok();
    let report = check(&setup).ok();
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");
}

#[test]
fn a_chain_that_clients_reject_is_reported() {
    let (_incus, mut setup, certificates) = valid_setup();
    let [authority, other] = ["authority", "other"].map(|name| certificates.authority(name));
    setup.server = certificates.server_issued_by(&authority, "issued");
    let report = check(&setup).ok();
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");

    let whole = setup.server.pem();
    let leaf = whole.strip_suffix(&authority.pem()).unwrap();
    let chain = |text: String| std::fs::write(&setup.server.certificate, text).unwrap();
    chain(leaf.to_owned() + &other.pem());
    let expected = "certificate 2 of the chain (CN=other) did not issue the one before it";
    let warned = warning(&setup);
    assert!(
        warned.starts_with("warn  public.tls and admin.tls: ") && warned.contains(expected),
        "{warned}"
    );

    chain(whole.clone());
    let gateway = Gateway::start(&setup.text());
    let status = |option: &[&str]| run(gateway.command("status").args(option)).ok();
    let problems = || -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
        report["certificates"][0]["problems"].clone()
    };
    assert_eq!(problems(), serde_json::json!([]));
    // certbot's cert.pem.
    chain(leaf.to_owned());
    let alone = "the file contains only the certificate, without that of its issuer";
    let warned = warning(&setup);
    assert!(warned.contains(alone) && warned.ends_with("fullchain.pem)"), "{warned}");
    gateway.signal("HUP");
    gateway.wait_for_log(&format!("WARN incus_gate::check: public.tls and admin.tls: {alone}"));
    gateway.wait_for_log("reloaded");
    assert!(problems()[0].as_str().unwrap().starts_with(alone), "{}", problems());
    let text = status(&[]);
    for key in ["public.tls", "admin.tls"] {
        assert!(text.contains(&format!("! {key}: {alone}")), "{text}");
    }
}

#[test]
fn only_the_first_certificate_of_an_admins_file_counts() {
    let (_incus, mut setup, certificates) = valid_setup();
    let authority = certificates.authority("authority");
    let admin = certificates.client_issued_by(&authority, "ops");
    setup.admins[0].1 = admin.clone();
    let report = check(&setup).ok();
    let expected = format!(
        "ok    admin.clients \"ops\": the first certificate of its file is used, SHA-256 {}; the others, its chain, are ignored",
        admin.fingerprint()
    );
    assert!(report.lines().any(|line| line == expected), "{report}");

    // Its first block is not read, and the second one must not take its place.
    std::fs::write(&admin.certificate, format!(" {}", admin.pem())).unwrap();
    let refused = check(&setup);
    assert_eq!(refused.status.code(), Some(78), "{refused}");
    assert!(
        refused
            .stderr
            .contains(":1: this line does not begin or end a PEM block"),
        "{refused}"
    );
    std::fs::write(&admin.certificate, certificates.client("one").pem() + &authority.pem()).unwrap();
    let refused = check(&setup);
    assert_eq!(refused.status.code(), Some(78), "{refused}");
    assert!(refused.stderr.contains("contains 2 certificates"), "{refused}");
}

#[test]
fn overlapping_listen_addresses_are_rejected() {
    let (_incus, mut setup, _certificates) = valid_setup();
    setup.public = "0.0.0.0:28990".to_owned();
    setup.admin = "127.0.0.1:28990".to_owned();
    let refused = check(&setup);
    assert_eq!(refused.status.code(), Some(78), "{refused}");
    let expected = "admin.listen: `127.0.0.1:28990` and `0.0.0.0:28990` of public.listen cannot both be bound";
    assert!(refused.stderr.contains(expected), "{refused}");
}

#[test]
fn run_logs_the_same_warnings() {
    let (_incus, mut setup, certificates) = valid_setup();
    let gateway = Gateway::start(&setup.text());
    // After a reload, and at the start.
    setup.server = certificates.server_for_days("soon", 5);
    let expected = "WARN incus_gate::check: public.tls and admin.tls: the certificate expires in 5 days; renew it";
    gateway.reconfigure(&setup.text());
    gateway.signal("HUP");
    gateway.wait_for_log(expected);
    Gateway::start(&setup.text()).wait_for_log(expected);
}

#[test]
fn an_upstream_without_tls_is_reported() {
    let (_incus, mut setup, _certificates) = valid_setup();
    setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let plain = Gateway::start(&setup.text());
    setup.more.clear();
    setup.upstream = plain.metrics_url().replace("http://", "https://");
    let report = check(&setup);
    assert!(!report.status.success(), "{report}");
    let wanted = "does not support TLS; set upstream.url to the port of `incus config get core.https_address`";
    assert!(report.stdout.contains(wanted), "{report}");
}
