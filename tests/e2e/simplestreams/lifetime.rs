//! What is served while the gateway or Incus restarts, the configuration changes, or the store has to make room.

use std::time::Instant;

use testing::client::Curl;
use testing::gateway::{Gateway, PATIENCE};
use testing::images::{Images, Kind, sha256};
use testing::scene::Scene;

use super::{ON, file, products, start, start_with, wait_for_images};

/// Returns the paths of all files in the documents.
fn paths(scene: &Scene) -> Vec<String> {
    let products = products(scene).document.products;
    let versions = products.values().flat_map(|product| product.versions.values());
    let items = versions.flat_map(|version| version.items.values());
    let mut paths: Vec<_> = items.map(|item| item.path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Panics unless each file has the hash that its name says.
#[track_caller]
fn assert_served(scene: &Scene, paths: &[String]) {
    for path in paths {
        let answer = file(scene, path, &[]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(path.contains(&sha256(&[&answer.body])), "{path}");
    }
}

#[test]
fn without_incus_everything_is_still_served() {
    let scene = start();
    Images::new().split("split").import(&scene.incus, &["--public"]);
    scene.refresh();
    wait_for_images(&scene, 1);
    let paths = paths(&scene);
    assert_eq!(paths.len(), 2);
    scene.incus.kill();
    // The gateway notices when it is asked for a name that it does not know.
    scene.get("/1.0/images/aliases/no-such-name");
    scene
        .gateway
        .wait_for_log("the public port keeps serving the last image list");
    wait_for_images(&scene, 1);
    assert_served(&scene, &paths);
}

#[test]
fn after_a_restart_stored_images_are_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut scene = start_with(|setup| setup.more = setup.more.replace("\"store\"", &format!("{store:?}")));
    let images = Images::new();
    for number in 0..3 {
        images.split(&number.to_string()).import(&scene.incus, &["--public"]);
    }
    scene.refresh();
    wait_for_images(&scene, 3);
    let before = paths(&scene);
    scene.gateway.signal("KILL");
    scene.gateway.exit_status();
    scene.gateway = Gateway::start(&scene.setup.text());
    assert_eq!(products(&scene).document.products.len(), 3, "in the first answer");
    assert_eq!(paths(&scene), before);
    assert_served(&scene, &before);
}

#[test]
fn incus_may_come_after_the_gateway() {
    let mut scene = start();
    Images::new().split("split").import(&scene.incus, &["--public"]);
    scene.incus.stop();
    scene.gateway = Gateway::start(&scene.setup.text());
    assert_eq!(scene.get("/streams/v1/index.json").status, 503);
    scene.incus.start_again();
    let deadline = Instant::now() + PATIENCE;
    while scene.get("/streams/v1/index.json").status != 200 {
        assert!(Instant::now() < deadline, "Incus is back");
    }
    wait_for_images(&scene, 1);
    assert_served(&scene, &paths(&scene));
}

#[test]
fn a_reload_turns_it_off_and_on() {
    let scene = start();
    Images::new().split("split").import(&scene.incus, &["--public"]);
    scene.refresh();
    wait_for_images(&scene, 1);
    let paths = paths(&scene);
    let reload = |text: &str| {
        let log = scene.gateway.log_length();
        scene.gateway.reconfigure(text);
        scene.gateway.signal("HUP");
        scene.gateway.wait_for_log_after(log, "reloaded");
    };
    reload(&scene.setup.text().replace(ON, ""));
    for path in ["/streams/v1/index.json", &format!("/{}", paths[0])] {
        assert_eq!(scene.get(path).status, 403, "{path}");
    }
    reload(&scene.setup.text());
    assert_eq!(products(&scene).document.products.len(), 1, "in the first answer");
    assert_served(&scene, &paths);
}

/// The store is filled again while the client waits, and the client gets what the documents promise.
#[test]
fn a_file_that_had_to_make_room_is_fetched_again() {
    let scene = start_with(|setup| setup.more = setup.more.replace("1GiB", "64MiB"));
    let images = Images::new();
    for number in 0..2 {
        let image = images.random(Kind::Split, &number.to_string(), 40);
        image.import(&scene.incus, &["--public"]);
        scene.refresh();
        wait_for_images(&scene, number + 1);
    }
    let folder = scene.gateway.configuration().with_file_name("store").join("files");
    let is_stored = |path: &str| {
        let hash = &path["images/".len()..][..64];
        folder.join(hash).exists()
    };
    let paths = paths(&scene);
    assert_eq!(paths.len(), 4);
    let missing = paths
        .iter()
        .find(|path| !is_stored(path))
        .expect("the store has room for one image");
    let url = format!("{}/{missing}", scene.gateway.public_url());
    let head = Curl::get(&url).method("HEAD").answer();
    assert_eq!(head.status, 200);
    assert!(!is_stored(missing), "HEAD needs no file");
    let answer = file(&scene, missing, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(head.header("content-length"), Some(&*answer.body.len().to_string()));
    assert!(missing.contains(&sha256(&[&answer.body])), "{missing}");
    assert!(is_stored(missing));
}
