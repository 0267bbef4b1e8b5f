//! A renewed certificate is reloaded automatically, and a certificate without its new key is not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use testing::certificates::Certificate;
use testing::gateway::Gateway;
use testing::scene::ScriptedScene;
use testing::scripted::{FINGERPRINT, Scripted};
use testing::tls::{PATIENCE, TlsClient};

const QUICKLY: &str = "[reload]\ninterval = \"50ms\"\n[log]\nlevel = \"info,incus_gate::reload=debug\"\n";

/// certbot's layout: `live` has links into `archive`, which each renewal replaces.
struct Certbot<'a> {
    folder: &'a Path,
    renewals: usize,
}

impl<'a> Certbot<'a> {
    fn new(folder: &'a Path, first: &Certificate) -> (Self, Certificate) {
        fs::create_dir(folder.join("live")).unwrap();
        fs::create_dir(folder.join("archive")).unwrap();
        let mut certbot = Self { folder, renewals: 0 };
        certbot.renew(first);
        let [certificate, key] = ["fullchain.pem", "privkey.pem"].map(|name| folder.join("live").join(name));
        (certbot, Certificate { certificate, key })
    }

    fn renew(&mut self, renewed: &Certificate) {
        self.renewals += 1;
        for (kind, file) in [("fullchain", &renewed.certificate), ("privkey", &renewed.key)] {
            let archived = format!("../archive/{kind}{}.pem", self.renewals);
            let link = self.folder.join("live").join(format!("{kind}.pem"));
            fs::copy(file, self.folder.join("live").join(&archived)).unwrap();
            // It is removed first, as certbot does.
            let _ = fs::remove_file(&link);
            symlink(archived, link).unwrap();
        }
    }
}

fn assert_shown(gateway: &Gateway, certificate: &Certificate) {
    for port in [gateway.public(), gateway.admin()] {
        let shown = TlsClient::tls13().connect(port).unwrap().server_certificate();
        assert_eq!(shown, certificate.der());
    }
}

#[test]
fn a_certbot_renewal_is_reloaded_and_aborts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let upstream = Scripted::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        receiver.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.send("after")
    });
    let mut certbot = None;
    let scene = ScriptedScene::before_with(&upstream, |setup| {
        let (first, live) = Certbot::new(folder.path(), &setup.server);
        certbot = Some(first);
        setup.server = live;
        setup.more = QUICKLY.to_owned();
    });
    let mut certbot = certbot.unwrap();
    let mut download = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let request = format!("GET /1.0/images/{FINGERPRINT}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n");
    download.send(request).unwrap();
    assert_eq!(download.read_head().unwrap().status, 200);
    assert_eq!(download.read_exactly(5).unwrap(), b"first");

    for name in ["second", "third"] {
        let renewed = scene.certificates.server(name);
        let before = scene.gateway.log().len();
        certbot.renew(&renewed);
        // A reload between the two links is rejected first.
        scene.gateway.wait_for_log_after(before, " reloaded");
        assert_shown(&scene.gateway, &renewed);
    }
    sender.send(()).unwrap();
    assert_eq!(download.read_exactly(5).unwrap(), b"after");
}

#[test]
fn a_half_renewed_pair_is_rejected_until_it_is_complete() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = QUICKLY.to_owned());
    let gateway = &scene.gateway;
    let old = scene.certificates.server("old");
    for (file, kept) in [
        (&scene.setup.server.certificate, &old.certificate),
        (&scene.setup.server.key, &old.key),
    ] {
        fs::copy(file, kept).unwrap();
    }
    let renewed = scene.certificates.server("renewed");

    replace(&renewed.certificate, &scene.setup.server.certificate);
    let line = gateway.wait_for_log("reload failed");
    assert!(line.contains("does not match the private key"), "{line}");
    // It is checked repeatedly, and not logged again.
    for _ in 0..3 {
        gateway.wait_for_log_after(gateway.log().len(), "the changed files are the ones already rejected");
    }
    assert_eq!(refusals(gateway), 1);
    assert_shown(gateway, &old);

    replace(&renewed.key, &scene.setup.server.key);
    gateway.wait_for_log(" reloaded");
    assert_eq!(refusals(gateway), 1);
    assert_shown(gateway, &renewed);
}

#[test]
fn a_renewal_is_reloaded_after_proxy_toml_is_corrected() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before_with(&upstream, |setup| setup.more = QUICKLY.to_owned());
    let renewed = scene.certificates.server("renewed");
    scene.gateway.reconfigure("nonsense");
    // The changed configuration alone does not cause a reload.
    replace(&renewed.key, &scene.setup.server.key);
    replace(&renewed.certificate, &scene.setup.server.certificate);
    scene.gateway.wait_for_log("reload failed");
    scene.gateway.reconfigure(&scene.setup.text());
    scene.gateway.wait_for_log(" reloaded");
    assert_shown(&scene.gateway, &renewed);
}

#[test]
fn a_changed_listen_address_warns_that_it_needs_a_restart() {
    let upstream = Scripted::start(|_, wire| wire.answer("200 OK", "text/plain", b"x"));
    let scene = ScriptedScene::before(&upstream);
    let mut moved = scene.setup.clone();
    moved.admin = "127.0.0.2:0".to_owned();
    scene.gateway.reconfigure(&moved.text());
    scene.gateway.signal("HUP");
    let line = scene.gateway.wait_for_log("restart the gateway to apply it");
    assert!(line.contains("WARN") && line.contains("admin.listen"), "{line}");
    scene.gateway.wait_for_log(" reloaded");
    assert!(!scene.gateway.log().iter().any(|line| line.contains("public.listen")));
    assert_shown(&scene.gateway, &scene.setup.server);
}

/// Replaces a file atomically.
fn replace(from: &Path, to: &Path) {
    let aside = to.with_extension("new");
    fs::copy(from, &aside).unwrap();
    fs::rename(aside, to).unwrap();
}

fn refusals(gateway: &Gateway) -> usize {
    gateway
        .log()
        .iter()
        .filter(|line| line.contains("reload failed"))
        .count()
}
