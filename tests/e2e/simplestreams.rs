//! The published images as simplestreams: what the documents say, and which files are served.

mod clients;
mod left_out;
mod lifetime;

use std::time::{Duration, Instant};

use simplestreams::{Architecture, Family, Parsed, Products, View};
use testing::client::{Answer, Curl};
use testing::gateway::PATIENCE;
use testing::images::{Images, sha256};
use testing::scene::{Scene, Setup};

/// The settings that turn it on.
const ON: &str = "simplestreams = true";

/// Starts the usual setup with simplestreams.
fn start() -> Scene {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Setup)) -> Scene {
    Scene::start_with(|setup| {
        turn_on(setup);
        change(setup);
    })
}

fn turn_on(setup: &mut Setup) {
    ON.clone_into(&mut setup.more_public);
    "[store]\ndirectory = \"store\"\nsize = \"1GiB\"".clone_into(&mut setup.more);
}

fn products(scene: &Scene) -> Parsed<Products> {
    let index = scene.get("/streams/v1/index.json");
    assert_eq!(index.status, 200, "{}", index.text());
    let answer = scene.get("/streams/v1/images.json");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    Products::parse(&answer.body).expect("a list of products")
}

/// Waits until this many images are listed.
fn wait_for_images(scene: &Scene, count: usize) -> Parsed<Products> {
    let begun = Instant::now();
    loop {
        let products = products(scene);
        if products.document.products.len() == count {
            return products;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", products.document);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn file(scene: &Scene, path: &str, headers: &[&str]) -> Answer {
    let url = format!("{}/{path}", scene.gateway.public_url());
    headers
        .iter()
        .fold(Curl::get(url), |curl, header| curl.header(header))
        .answer()
}

#[test]
fn published_images_appear_and_vanish() {
    let scene = start();
    assert!(products(&scene).document.products.is_empty());
    let images = Images::new();
    let (split, unified, private) = (
        images.split("split"),
        images.unified("unified"),
        images.split("private"),
    );
    split.import(&scene.incus, &["--public", "--alias", "tool/amd64"]);
    unified.import(&scene.incus, &["--public", "--alias", "whole"]);
    private.import(&scene.incus, &[]);
    scene.refresh();
    let listed = wait_for_images(&scene, 2);
    let mut paths = Vec::new();
    for family in Family::ALL {
        let view = View::of(family, &[&listed]);
        for (alias, image) in [("tool", &split), ("whole", &unified)] {
            let found = view.resolve(alias, None, Architecture::X86_64).expect("an image");
            assert_eq!(found.fingerprint, image.fingerprint);
            let files: Vec<_> = found
                .files
                .iter()
                .map(|part| file(&scene, &part.path, &[]).body)
                .collect();
            assert_eq!(
                sha256(&files.iter().map(Vec::as_slice).collect::<Vec<_>>()),
                image.fingerprint
            );
            paths.extend(found.files.iter().map(|file| file.path.clone()));
        }
    }

    let answer = file(&scene, &paths[0], &["Range: bytes=1-"]);
    assert_eq!(answer.status, 206);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    let etag = answer.header("etag").unwrap();
    assert_eq!(
        file(&scene, &paths[0], &[&format!("If-None-Match: {etag}")]).status,
        304
    );
    let url = format!("{}/{}", scene.gateway.public_url(), paths[0]);
    let posted = Curl::get(&url).method("POST").answer();
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    let head = Curl::get(&url).method("HEAD").answer();
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-length"),
        Some((answer.body.len() + 1).to_string().as_str())
    );
    for missing in [
        "images/x",
        "images/",
        "streams/v1",
        "streams/v1/other.json",
        "images/../1.0",
        "images/../streams/v1/index.json",
        "images/%2e%2e/streams/v1/index.json",
        "streams/v1/%69ndex.json",
        &format!("images//{}", &paths[0][7..]),
        &format!("images/%{:x}{}", paths[0].as_bytes()[7], &paths[0][8..]),
        &format!("{}/", paths[0]),
        &format!("images/{}", paths[0][7..].to_uppercase()),
    ] {
        assert_eq!(file(&scene, missing, &[]).status, 404, "{missing}");
    }

    scene.incus.run(&["image", "delete", &split.fingerprint]).ok();
    scene.refresh();
    wait_for_images(&scene, 1);
    assert_eq!(file(&scene, &paths[0], &[]).status, 404);
}

/// Clients keep the list for minutes, a daemon for an hour.
#[test]
fn a_new_image_is_in_the_first_list() {
    let scene = start();
    let images = Images::new();
    for number in 1..4 {
        images.split(&number.to_string()).import(&scene.incus, &["--public"]);
        // Later than `max_age`, so that the next request finds it.
        std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(products(&scene).document.products.len(), number);
    }
}

#[test]
fn documents_have_tags_and_are_compressed() {
    let scene = start();
    let images = Images::new();
    for number in 0..3 {
        images.split(&number.to_string()).import(&scene.incus, &["--public"]);
    }
    scene.refresh();
    wait_for_images(&scene, 3);
    for path in ["/streams/v1/index.json", "/streams/v1/images.json"] {
        let url = format!("{}{path}", scene.gateway.public_url());
        let whole = Curl::get(&url).answer();
        let etag = whole.header("etag").unwrap();
        let known = Curl::get(&url).header(&format!("If-None-Match: {etag}")).answer();
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        assert_eq!(known.header("cache-control"), Some("no-cache"));
        let head = Curl::get(&url).method("HEAD").answer();
        let length = whole.body.len().to_string();
        assert_eq!((head.status, head.header("content-length")), (200, Some(&*length)));
        // A document is small, and changes: it has no ranges.
        let part = Curl::get(&url).header("Range: bytes=1-").answer();
        assert_eq!((part.status, part.body), (200, whole.body));
    }
    let url = format!("{}/streams/v1/images.json", scene.gateway.public_url());
    let packed = Curl::get(&url).with(["--compressed"]).answer();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.body, Curl::get(&url).answer().body);
}

#[test]
fn without_the_setting_nothing_is_served() {
    let scene = Scene::start();
    for path in ["/streams/v1/index.json", "/streams/v1/images.json", "/images/x"] {
        let answer = scene.get(path);
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (403, Some("no-cache")),
            "{path}"
        );
    }
}
