//! A published image is available at once, and an unpublished one disappears soon.

use std::time::{Duration, Instant};

use testing::client::Curl;
use testing::gateway::Gateway;
use testing::images::{Image, Images, Kind};
use testing::scene::Scene;

#[test]
fn a_newly_published_image_is_available_at_once() {
    // So long that only a new fetch finds the image.
    let scene = Scene::start_with(|setup| "max_age = \"1h\"".clone_into(&mut setup.more_public));
    let images = Images::new();

    for (kind, number) in [
        (Kind::Split, 1),
        (Kind::Unified, 2),
        (Kind::Split, 3),
        (Kind::Unified, 4),
    ] {
        let image = images.random(kind, "a new one", 1);
        let fingerprint = &image.fingerprint;
        let paths = [
            format!("/1.0/images/aliases/new%2F{number}"),
            format!("/1.0/images/{}", &fingerprint[..12]),
            format!("/1.0/images/{fingerprint}"),
            format!("/1.0/images/{fingerprint}/export"),
        ];
        // Each time, another path is requested first.
        let path = &paths[number - 1];
        assert_eq!(scene.get(path).status, 404, "not yet: {path}");
        image.import(&scene.incus, &["--public", "--alias", &format!("new/{number}")]);
        let published = Instant::now();
        assert_eq!(scene.get(path).status, 200, "{path}");
        assert!(
            published.elapsed() < Duration::from_secs(1),
            "{path} took {:?}",
            published.elapsed()
        );
        for path in &paths {
            assert_eq!(scene.get(path).status, 200, "{path}");
        }
    }
}

#[test]
fn an_unpublished_image_disappears_within_max_age() {
    const REFRESH: Duration = Duration::from_secs(1);
    let scene = Scene::start();
    let images = Images::new();
    let incus = &scene.incus;

    let hide = |image: &Image| {
        let path = format!("/1.0/images/{}", image.fingerprint);
        incus
            .run(&["query", "--request=PATCH", "--data={\"public\": false}", &path])
            .ok();
    };
    let delete = |image: &Image| drop(incus.run(&["image", "delete", &image.fingerprint]).ok());
    let rename = |_: &Image| drop(incus.run(&["image", "alias", "rename", "old", "new"]).ok());
    let whole = |image: &Image| {
        let path = format!("/1.0/images/{}", image.fingerprint);
        vec![
            path.clone(),
            format!("{path}/export"),
            "/1.0/images/aliases/old".to_owned(),
        ]
    };
    let name = |_: &Image| vec!["/1.0/images/aliases/old".to_owned()];

    type Act<'a> = &'a dyn Fn(&Image);
    type Paths<'a> = &'a dyn Fn(&Image) -> Vec<String>;
    let cases: [(&str, Act<'_>, Paths<'_>); 3] = [
        ("hidden", &hide, &whole),
        ("deleted", &delete, &whole),
        ("renamed", &rename, &name),
    ];
    for (what, act, paths) in cases {
        let image = images.unified(what);
        image.import(incus, &["--public", "--alias", "old"]);
        let paths = paths(&image);
        for path in &paths {
            assert_eq!(scene.get(path).status, 200, "{what}: {path}");
        }
        assert!(scene.get("/1.0/images/aliases").text().contains("/old\""));
        act(&image);
        let done = Instant::now();
        for path in &paths {
            loop {
                let sent_after = done.elapsed();
                if scene.get(path).status == 404 {
                    break;
                }
                assert!(
                    sent_after <= REFRESH,
                    "{what}: {path} was still there when sent_after after {sent_after:?}"
                );
            }
        }
        assert!(!scene.get("/1.0/images/aliases").text().contains("/old\""), "{what}");
        let listed = scene.get("/1.0/images").text().contains(&image.fingerprint);
        assert_eq!(listed, what == "renamed", "{what}");
    }
}

#[test]
fn an_incus_started_later_is_found_before_max_age() {
    let scene = Scene::start_with(|setup| "max_age = \"1h\"".clone_into(&mut setup.more_public));
    let image = Images::new().unified("there already");
    image.import(&scene.incus, &["--public", "--alias", "there"]);
    scene.incus.stop();
    let early = Gateway::start(&scene.setup.text());
    early.wait_for_log("the public port serves no images");
    let list = || Curl::get(format!("{}/1.0/images", early.public_url())).answer();
    assert_eq!(list().status, 503);
    scene.incus.start_again();
    // Without a request.
    early.wait_for_log("the image list is up to date again");
    assert!(list().text().contains(&image.fingerprint));
}
