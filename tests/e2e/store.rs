//! Downloads come from the store, which is filled once from Incus and serves only verified, published images.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testing::client::{Answer, Curl};
use testing::images::{Images, Kind, export_fingerprint, sha256};
use testing::scene::Scene;

/// Starts the usual setup with a store.
fn scene() -> Scene {
    Scene::start_with(|setup| "[store]\ndirectory = \"store\"\nsize = \"1GiB\"".clone_into(&mut setup.more))
}

/// Returns the files that the store has.
fn files(scene: &Scene) -> Vec<PathBuf> {
    let folder = scene.gateway.configuration().with_file_name("store").join("files");
    let entries = fs::read_dir(folder).expect("the store's directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Waits until the store has this many files.
fn wait_for_files(scene: &Scene, count: usize) {
    let begun = Instant::now();
    while files(scene).len() != count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", files(scene));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn export(scene: &Scene, fingerprint: &str, headers: &[&str]) -> Answer {
    let url = format!("{}/1.0/images/{fingerprint}/export", scene.gateway.public_url());
    headers
        .iter()
        .fold(Curl::get(url), |curl, header| curl.header(header))
        .answer()
}

#[test]
fn an_image_is_read_from_incus_once_and_served_without_it() {
    let scene = scene();
    let images = Images::new();
    for (kind, parts) in [(Kind::Split, 2), (Kind::Unified, 3)] {
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
