//! Disks that are full or read-only, and files that somebody has changed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use testing::disk::Disk;
use testing::gateway::Gateway;
use testing::scene::ScriptedScene;
use testing::scripted::Scripted;
use testing::tls::{End, TlsClient};

use super::sample::{Sample, is_export, list};
use super::{Folder, get, path_of, status, stop, table, wait_for_status, wait_until, warnings};

/// Starts an upstream that publishes these images.
fn upstream(images: &[&Sample]) -> Scripted {
    let images: Vec<Sample> = images.iter().map(|image| (*image).clone()).collect();
    Scripted::start_bare(move |request, wire| {
        if let Some(then) = list(request, wire, &images.iter().collect::<Vec<_>>()) {
            return then;
        }
        let image = images
            .iter()
            .find(|image| is_export(request, image))
            .expect("an export");
        wire.send(image.head());
        wire.send(image.body())
    })
}

fn scene(upstream: &Scripted, store: &Path) -> ScriptedScene {
    ScriptedScene::before_with(upstream, |setup| {
        setup.more = table(store, "64MiB");
        "max_age = \"1h\"".clone_into(&mut setup.more_public);
    })
}

fn exports(upstream: &Scripted) -> usize {
    let requests = upstream.requests().into_iter();
    requests.filter(|request| request.target().ends_with("/export")).count()
}

#[test]
fn a_full_disk_fails_no_download_and_is_logged_once() {
    let disk = Disk::of("4m");
    let images = [
        Sample::split(1, 9 << 20),
        Sample::unified(2, 9 << 20),
        Sample::split(3, 1 << 20),
    ];
    let upstream = upstream(&images.iter().collect::<Vec<_>>());
    let scene = scene(&upstream, &disk.path().join("store"));
    // The first download begins with bytes from the store, and Incus sends the rest.
    assert!(get(&scene.gateway, &images[0].fingerprint, &[]).body == images[0].export());
    for _ in 0..3 {
        for image in &images {
            let answer = get(&scene.gateway, &image.fingerprint, &[]);
            assert!(image.parts.iter().all(|part| contains(&answer.body, part)));
        }
    }
    let told = status(&scene.gateway);
    assert_eq!(
        (&told["disk_errors"], &told["images"]),
        (&1.into(), &0.into()),
        "{told}"
    );
    let lines = warnings(&scene.gateway, "");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains("the store cannot be written: No space left on device")
            && lines[0].contains("images are streamed from Incus while this lasts"),
        "{lines:?}"
    );
    let text = testing::run::run(&mut scene.gateway.command("status")).ok();
    assert!(text.contains("! store: 1 disk errors\n"), "{text}");
}

/// Returns whether a body contains a part, by the part's beginning, which is random.
fn contains(body: &[u8], part: &[u8]) -> bool {
    let at = body.windows(16).position(|window| window == &part[..16]);
    at.is_some_and(|at| body[at..].starts_with(part))
}

#[test]
fn a_read_only_disk_serves_what_it_has() {
    let disk = Disk::of("16m");
    let store = disk.path().join("store");
    let (stored, other) = (Sample::split(4, 1 << 20), Sample::unified(5, 1 << 20));
    let upstream = upstream(&[&stored, &other]);
    let scene = scene(&upstream, &store);
    assert!(get(&scene.gateway, &stored.fingerprint, &[]).body == stored.export());
    wait_for_status(&scene.gateway, "images", 1);
    disk.make_read_only();
    for _ in 0..3 {
        assert!(get(&scene.gateway, &stored.fingerprint, &[]).body == stored.export());
        assert!(get(&scene.gateway, &other.fingerprint, &[]).body == other.export());
    }
    assert_eq!(status(&scene.gateway)["hits"], 3);
    let lines = warnings(&scene.gateway, "");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains("the store cannot be written: Read-only file system"),
        "{lines:?}"
    );
    // The same at the next start.
    stop(&scene.gateway, "TERM");
    let next = Gateway::start(&scene.setup.text());
    assert!(get(&next, &stored.fingerprint, &[]).body == stored.export());
    assert_eq!(status(&next)["hits"], 1);
}

#[test]
fn a_changed_file_is_never_served() {
    for image in [Sample::split(6, 1 << 20), Sample::unified(7, 1 << 20)] {
        let upstream = upstream(&[&image]);
        let folder = Folder::new();
        let mut scene = folder.before(&upstream);
        let fetch = |gateway: &Gateway| assert!(get(gateway, &image.fingerprint, &[]).body == image.export());
        fetch(&scene.gateway);
        folder.wait_for_files(image.parts.len());
        let flip = || {
            for file in folder.files() {
                let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, 99).unwrap();
                file.write_all_at(&[byte[0] ^ 1], 99).unwrap();
            }
        };
        // While the gateway runs, and while it does not.
        flip();
        fetch(&scene.gateway);
        assert_eq!(exports(&upstream), 2);
        let told = status(&scene.gateway);
        assert_eq!(told["dropped"]["wrong_hash"], 1, "{told}");
        folder.wait_for_files(image.parts.len());
        stop(&scene.gateway, "TERM");
        flip();
        scene.gateway = Gateway::start(&scene.setup.text());
        fetch(&scene.gateway);
        assert_eq!(exports(&upstream), 3);
        wait_for_status(&scene.gateway, "images", 1);
        fetch(&scene.gateway);
        assert_eq!(exports(&upstream), 3);
    }
}

#[test]
fn a_file_that_is_changed_during_a_download_cuts_it() {
    let image = Sample::unified(8, 30 << 20);
    let upstream = upstream(&[&image]);
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    assert!(get(&scene.gateway, &image.fingerprint, &[]).body == image.export());
    folder.wait_for_files(1);
    let mut raw = TlsClient::tls13().connect(scene.gateway.public()).unwrap();
    let path = path_of(&image.fingerprint);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
        .unwrap();
    let head = raw.read_head().unwrap();
    assert_eq!(head.field("content-length"), Some((30 << 20).to_string().as_str()));
    let file = fs::OpenOptions::new().write(true).open(&folder.files()[0]).unwrap();
    file.write_all_at(b"changed", (30 << 20) - 1000).unwrap();
    assert_eq!(raw.read_body_of(&head), Err(End::Reset));
    assert!(get(&scene.gateway, &image.fingerprint, &[]).body == image.export());
    assert_eq!(exports(&upstream), 2);
}

#[test]
fn without_a_usable_folder_images_are_streamed() {
    let image = Sample::split(9, 1 << 20);
    let upstream = upstream(&[&image]);
    let folder = Folder::new();
    fs::write(folder.path(), "a file").unwrap();
    let scene = folder.before(&upstream);
    for _ in 0..2 {
        assert_eq!(get(&scene.gateway, &image.fingerprint, &[]).status, 200);
    }
    assert_eq!(exports(&upstream), 2);
    assert!(
        scene
            .gateway
            .wait_for_log("store.directory: ")
            .contains("cannot create")
    );
    scene
        .gateway
        .wait_for_log("images are streamed from Incus until the gateway is restarted");
    let told = status(&scene.gateway);
    assert!(
        told["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("store")),
        "{told}"
    );
    assert_eq!(told["limit_bytes"], 64 << 20);
    let text = testing::run::run(&mut scene.gateway.command("status")).ok();
    assert!(
        text.contains("\n! store in ") && text.contains("cannot be opened: "),
        "{text}"
    );
    wait_until(|| scene.gateway.ended().is_none(), String::new);
}

#[test]
fn a_second_gateway_runs_without_the_store_of_the_first() {
    let image = Sample::split(10, 1 << 20);
    let upstream = upstream(&[&image]);
    let folder = Folder::new();
    let first = folder.before(&upstream);
    let second = folder.before(&upstream);
    let line = second.gateway.wait_for_log("store.directory: ");
    assert!(
        line.contains("another process uses this store; stop it, or choose another directory"),
        "{line}"
    );
    for gateway in [&first.gateway, &second.gateway] {
        assert_eq!(get(gateway, &image.fingerprint, &[]).status, 200);
    }
    assert_eq!(status(&first.gateway)["misses"], 1);
}

#[test]
fn a_changed_table_needs_a_restart() {
    let upstream = upstream(&[]);
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    let mut setup = scene.setup.clone();
    setup.more = table(&folder.path(), "65MiB");
    scene.gateway.reconfigure(&setup.text());
    scene.gateway.signal("HUP");
    scene
        .gateway
        .wait_for_log("[store] has changed; restart the gateway to apply it");
    assert_eq!(status(&scene.gateway)["limit_bytes"], 64 << 20);
}
