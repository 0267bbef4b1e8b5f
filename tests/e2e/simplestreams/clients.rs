//! The real clients of Incus and LXD, and another Incus, pull every kind of image from the public port.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing::client::Client;
use testing::images::{Image, Images, Kind, Root, sha256_of};
use testing::incus::Incus;
use testing::lxd::Lxd;
use testing::run::Output;
use testing::scene::Scene;

use super::{start, wait_for_images};

/// Published images, with an alias and the type of each.
struct Published {
    images: Vec<(&'static str, Image, &'static str)>,
}

impl Published {
    /// Imports an image of each kind, and waits until all of them are listed.
    fn in_(scene: &Scene) -> Self {
        let images = Images::new();
        let made = vec![
            ("squashfs", images.with_root(Root::Squashfs, "squashfs"), "container"),
            ("tar.xz", images.with_root(Root::Tar("xz"), "xz"), "container"),
            ("tar.gz", images.with_root(Root::Tar("gzip"), "gzip"), "container"),
            ("tar.zst", images.with_root(Root::Tar("zstd"), "zstd"), "container"),
            ("tar", images.split("without compression"), "container"),
            ("unified", images.unified("one file"), "container"),
            (
                "machine",
                images.virtual_machine(Kind::Split, "machine"),
                "virtual-machine",
            ),
            ("crynux-node:v2.6.0", images.split("the seed's"), "container"),
            ("tool/amd64", images.split("of several architectures"), "container"),
        ];
        for (alias, image, _) in &made {
            image.import(&scene.incus, &["--public", "--alias", alias]);
        }
        scene.refresh();
        wait_for_images(scene, made.len());
        Self { images: made }
    }

    /// All names with their images. An alias of an architecture is also one without it.
    fn named(&self) -> impl Iterator<Item = (&str, &Image, &str)> {
        let of_architecture = self.images.iter().filter_map(|(alias, image, kind)| {
            let stem = alias.strip_suffix("/amd64")?;
            Some((stem, image, *kind))
        });
        self.images
            .iter()
            .map(|(alias, image, kind)| (*alias, image, *kind))
            .chain(of_architecture)
    }
}

/// Creates both clients, with the public port as a simplestreams remote.
fn clients(scene: &Scene) -> [Client; 2] {
    [Client::stranger(), Client::lxd()].map(|client| {
        client.trust_remote("gate", &scene.setup.server);
        let url = scene.gateway.public_url();
        client
            .run(&["remote", "add", "gate", &url, "--protocol=simplestreams"])
            .ok();
        client
    })
}

/// Returns fingerprint, type and architecture of each image that a client lists.
fn listed(client: &Client, remote: &str) -> Vec<[String; 3]> {
    let json = client.run(&["image", "list", remote, "--format=json"]).ok();
    let images: Vec<Value> = serde_json::from_str(&json).unwrap();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    let mut listed: Vec<_> = images
        .iter()
        .map(|image| ["fingerprint", "type", "architecture"].map(|key| text(image, key)))
        .collect();
    listed.sort();
    listed
}

#[test]
fn both_clients_list_show_and_export_every_kind_of_image() {
    let scene = start();
    let published = Published::in_(&scene);
    let mut expected: Vec<_> = published
        .images
        .iter()
        .map(|(_, image, kind)| [&image.fingerprint, *kind, "x86_64"].map(str::to_owned))
        .collect();
    expected.sort();
    for client in clients(&scene) {
        let program = client.program();
        assert_eq!(listed(&client, "gate:"), expected, "{program}");
        for (alias, image, kind) in published.named() {
            let as_kind = match kind {
                "virtual-machine" => &["--vm"][..],
                _ => &[],
            };
            let fingerprint = &image.fingerprint;
            for name in [alias, fingerprint, &fingerprint[..12]] {
                let name = format!("gate:{name}");
                let info = [&["image", "info", &name], as_kind].concat();
                let info = client.run(&info).ok();
                assert!(
                    info.starts_with(&format!("Fingerprint: {fingerprint}\n")),
                    "{program} {name}: {info}"
                );
            }
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("image").to_string_lossy().into_owned();
            let name = format!("gate:{alias}");
            client
                .run(&[&["image", "export", &name, &target], as_kind].concat())
                .ok();
            let mut files: Vec<PathBuf> = fs::read_dir(folder.path())
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            // The root is named like the metadata, with another extension.
            files.sort_by_key(|file| file.extension().is_some_and(|extension| extension == "root"));
            assert_eq!(&sha256_of(&files), fingerprint, "{program}: {alias}: {files:?}");
        }
    }
}

#[test]
fn another_incus_copies_and_launches_from_simplestreams() {
    let (scene, published) = with_bootable();
    let incus = Incus::start(&[]);
    incus.trust_remote("gate", &scene.setup.server);
    assert_pulls(&scene, &published, &|arguments| incus.run(arguments));
}

#[test]
fn an_lxd_copies_and_launches_from_simplestreams() {
    let (scene, published) = with_bootable();
    let lxd = Lxd::start();
    lxd.trust_remote("gate", &scene.setup.server);
    assert_pulls(&scene, &published, &|arguments| lxd.run(arguments));
}

/// Publishes images of each kind, and one that boots.
fn with_bootable() -> (Scene, Published) {
    let scene = start_verbosely();
    let published = Published::in_(&scene);
    let bootable = Images::new().bootable("busybox");
    bootable.import(&scene.incus, &["--public", "--alias", "busybox:v1"]);
    scene.refresh();
    wait_for_images(&scene, published.images.len() + 1);
    (scene, published)
}

/// Panics unless a client and its daemon copy and launch the images. `run` runs the client.
fn assert_pulls(scene: &Scene, published: &Published, run: &dyn Fn(&[&str]) -> Output) {
    let url = scene.gateway.public_url();
    run(&["remote", "add", "gate", &url, "--protocol=simplestreams"]).ok();

    // A daemon asks in plain HTTP first, on the TLS port, and would wait half a minute for an answer.
    let begun = Instant::now();
    let log = scene.gateway.log_length();
    run(&["image", "copy", "gate:squashfs", "local:", "--copy-aliases"]).ok();
    let log = &scene.gateway.log()[log..];
    let is_plain = |line: &&String| line.contains("rejected a plain HTTP request on an HTTPS port");
    assert!(log.iter().filter(is_plain).count() >= 2, "for each file: {log:#?}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    run(&["image", "delete", "local:squashfs"]).ok();

    for (alias, image, kind) in published.named() {
        let fingerprint = &image.fingerprint;
        let as_kind = match kind {
            "virtual-machine" => &["--vm"][..],
            _ => &[],
        };
        for name in [alias, &fingerprint[..12]] {
            let source = format!("gate:{name}");
            run(&[&["image", "copy", &source, "local:", "--copy-aliases"], as_kind].concat()).ok();
            let shown = run(&["image", "info", fingerprint]).ok();
            assert!(
                shown.starts_with(&format!("Fingerprint: {fingerprint}\n")),
                "{name}: {shown}"
            );
            let by_alias = run(&[&["image", "info", &format!("local:{alias}")], as_kind].concat()).ok();
            assert!(by_alias.contains(fingerprint), "{name}: {by_alias}");
            run(&["image", "delete", fingerprint]).ok();
        }
    }

    run(&["launch", "gate:busybox:v1", "box"]).ok();
    let said = run(&["exec", "box", "--", "sh", "-c", "cat /etc/mark"]);
    run(&["delete", "--force", "box"]).ok();
    assert!(said.ok().starts_with("mark:"));
}

fn start_verbosely() -> Scene {
    super::start_with(|setup| setup.more += "\n[log]\nlevel = \"info,incus_gate=debug\"\n")
}

/// `--accept-certificate` does nothing for this protocol.
#[test]
fn clients_need_a_certificate_that_they_trust() {
    let scene = start();
    let authority = scene.certificates.authority("authority");
    let issued = scene.certificates.server_issued_by(&authority, "issued");
    let url = scene.gateway.public_url();
    let add = [
        "remote",
        "add",
        "gate",
        &url,
        "--protocol=simplestreams",
        "--accept-certificate",
    ];
    let list = ["image", "list", "gate:"];
    for client in [Client::stranger(), Client::lxd()] {
        client.run(&add).ok();
        let complaint = client.run(&list).fails();
        assert!(complaint.contains("x509"), "{}: {complaint}", client.program());
        client.trust_remote("gate", &scene.setup.server);
        client.run(&list).ok();
    }

    let text = scene.setup.text();
    let [old, new] = [&scene.setup.server, &issued].map(|server| server.certificate.to_string_lossy().into_owned());
    let [old_key, new_key] = [&scene.setup.server, &issued].map(|server| server.key.to_string_lossy().into_owned());
    scene
        .gateway
        .reconfigure(&text.replace(&old, &new).replace(&old_key, &new_key));
    scene.gateway.signal("HUP");
    scene.gateway.wait_for_log("reloaded");
    for client in [Client::stranger(), Client::lxd()] {
        let client = client.trusting(&authority);
        client.run(&add[..5]).ok();
        assert_eq!(listed(&client, "gate:"), Vec::<[String; 3]>::new());
    }
}
