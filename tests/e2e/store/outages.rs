//! Incus is away: what is stored is served for a while.

use std::time::{Duration, Instant};

use testing::images::{Images, Kind};
use testing::scene::Scene;

use super::{Folder, export, table, wait_until};

#[test]
fn stored_images_outlast_incus_for_as_long_as_the_list() {
    const STALE: Duration = Duration::from_secs(8);
    let folder = Folder::new();
    let scene = Scene::start_with(|setup| {
        setup.more = table(&folder.path(), "64MiB");
        setup.more_public = format!("stale_if_error = \"{}s\"", STALE.as_secs());
    });
    let images = Images::new();
    let (stored, other) = (
        images.random(Kind::Split, "stored", 2),
        images.random(Kind::Unified, "other", 2),
    );
    for image in [&stored, &other] {
        image.import(&scene.incus, &["--public"]);
    }
    scene.refresh();
    let whole = export(&scene, &stored.fingerprint, &[]).body;
    folder.wait_for_files(2);
    let fresh = Instant::now();
    scene.incus.kill();
    assert!(export(&scene, &stored.fingerprint, &[]).body == whole);
    assert_eq!(export(&scene, &other.fingerprint, &[]).status, 502);
    wait_until(
        || export(&scene, &stored.fingerprint, &[]).status == 503,
        || "still served".to_owned(),
    );
    assert!(fresh.elapsed() >= STALE / 2, "{:?}", fresh.elapsed());

    scene.incus.start_again();
    wait_until(
        || export(&scene, &stored.fingerprint, &[]).body == whole,
        || "not served again".to_owned(),
    );
}
