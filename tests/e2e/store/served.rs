//! A real Incus, and what the store makes of its images.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testing::images::{Images, Kind, export_fingerprint, sha256};
use testing::run::run;
use testing::scene::Scene;
use testing::tls::TlsClient;

use super::{export, list, path_of, status, wait_until};

/// Starts the usual setup with a store.
fn scene() -> Scene {
    Scene::start_with(|setup| "[store]\ndirectory = \"store\"\nsize = \"1GiB\"".clone_into(&mut setup.more))
}

/// Returns the files that the store has.
fn files(scene: &Scene) -> Vec<PathBuf> {
    list(&scene.gateway.configuration().with_file_name("store").join("files"))
}

fn wait_for_files(scene: &Scene, count: usize) {
    wait_until(|| files(scene).len() == count, || format!("{:?}", files(scene)));
}

#[test]
fn an_image_is_read_from_incus_once_and_served_without_it() {
    let images = Images::new();
    for (kind, parts) in [(Kind::Split, 2), (Kind::Unified, 1)] {
        let scene = scene();
        let image = images.random(kind, "x", 3);
        image.import(&scene.incus, &["--public"]);
        scene.refresh();
        let first = export(&scene, &image.fingerprint, &[]);
        assert_eq!(export_fingerprint(&first), image.fingerprint);
        wait_for_files(&scene, parts);
        let second = export(&scene, &image.fingerprint, &[]);
        assert_eq!(second.body, first.body, "the same bytes each time");
        assert_eq!(
            second.header("content-length"),
            Some(first.body.len().to_string().as_str())
        );
        assert_eq!(second.header("content-type"), first.header("content-type"));
        assert_eq!(
            second.header("content-disposition"),
            first.header("content-disposition")
        );
        assert_eq!(second.header("etag"), first.header("etag"));

        let _paused = scene.incus.pause();
        let third = export(&scene, &image.fingerprint, &[]);
        assert_eq!(third.body, first.body);
        let etag = first.header("etag").expect("an entity tag").to_owned();
        let cached = export(&scene, &image.fingerprint, &[&format!("If-None-Match: {etag}")]);
        assert_eq!((cached.status, cached.body.len()), (304, 0));
        let rest = export(
            &scene,
            &image.fingerprint,
            &["Range: bytes=1000000-", &format!("If-Range: {etag}")],
        );
        assert_eq!(rest.status, 206);
        assert_eq!(rest.body, first.body[1_000_000..]);
        assert_eq!(
            rest.header("content-range"),
            Some(format!("bytes 1000000-{}/{}", first.body.len() - 1, first.body.len()).as_str())
        );
        let behind = export(
            &scene,
            &image.fingerprint,
            &[&format!("Range: bytes={}-", first.body.len())],
        );
        assert_eq!(behind.status, 416);
    }
}

#[test]
fn the_files_of_an_unpublished_image_are_removed() {
    let scene = scene();
    let images = Images::new();
    let (kept, gone) = (images.unified("kept"), images.split("gone"));
    for image in [&kept, &gone] {
        image.import(&scene.incus, &["--public"]);
    }
    scene.refresh();
    for image in [&kept, &gone] {
        assert_eq!(export(&scene, &image.fingerprint, &[]).status, 200);
    }
    wait_for_files(&scene, 3);
    scene
        .incus
        .run(&[
            "query",
            "-X",
            "PATCH",
            "-d",
            r#"{"public": false}"#,
            &format!("/1.0/images/{}", gone.fingerprint),
        ])
        .ok();
    scene.refresh();
    assert_eq!(export(&scene, &gone.fingerprint, &[]).status, 404);
    wait_for_files(&scene, 1);
    let bytes = fs::read(&files(&scene)[0]).expect("a file");
    assert_eq!(sha256(&[&bytes]), kept.fingerprint);
}

#[test]
fn an_interrupted_download_is_resumed() {
    let scene = scene();
    let images = Images::new();
    for (kind, parts) in [(Kind::Split, 2), (Kind::Unified, 3)] {
        let image = images.random(kind, "x", 3);
        image.import(&scene.incus, &["--public"]);
        scene.refresh();
        let whole = export(&scene, &image.fingerprint, &[]).body;
        wait_for_files(&scene, parts);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        fs::write(&file, &whole[..1_234_567]).unwrap();
        let url = format!("{}{}", scene.gateway.public_url(), path_of(&image.fingerprint));
        let curl = |rest: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", "--insecure", "--continue-at", "-"]);
            run(command.args(rest).arg("--output").arg(&file).arg(&url)).ok()
        };
        let sent = curl(&["--write-out", "%{http_code} %{size_download}"]);
        assert_eq!(sent, format!("206 {}", whole.len() - 1_234_567));
        assert!(fs::read(&file).unwrap() == whole, "{kind:?}");
    }
}

#[test]
fn both_protocols_get_the_same_bytes() {
    let scene = scene();
    let image = Images::new().random(Kind::Split, "x", 3);
    image.import(&scene.incus, &["--public"]);
    scene.refresh();
    let first = export(&scene, &image.fingerprint, &[]).body;
    wait_for_files(&scene, 2);
    let path = path_of(&image.fingerprint);
    let address = scene.gateway.public();
    let http1 = TlsClient::tls13().connect(address).unwrap().get(&path).unwrap();
    let http2 = TlsClient::tls13().connect_http2(address).unwrap().get(&path).unwrap();
    assert!(http1.whole.is_ok() && http1.body == first);
    assert!(http2.whole.is_ok() && http2.body == first);
    assert_eq!(http2.headers["content-length"], first.len().to_string());
    let told = status(&scene.gateway);
    assert_eq!((&told["hits"], &told["misses"]), (&2.into(), &1.into()), "{told}");
}
