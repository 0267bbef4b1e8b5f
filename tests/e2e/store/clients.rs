//! The real client and daemon of Incus use images from the store.

use testing::images::{Images, Kind, sha256_of};
use testing::scene::Scene;

use super::{Folder, table};

/// Starts a gateway with an empty store.
fn scene(folder: &Folder) -> Scene {
    Scene::start_with(|setup| setup.more = table(&folder.path(), "64MiB"))
}

#[test]
fn incus_copies_and_exports_images_from_the_store() {
    let folder = Folder::new();
    let scene = scene(&folder);
    let images = Images::new();
    let pairs = [(Kind::Split, "split", 2), (Kind::Unified, "unified", 3)];
    for (kind, name, files) in pairs {
        let image = images.random(kind, name, 2);
        image.import(&scene.incus, &["--alias", name, "--public"]);
        scene.refresh();
        // While it arrives, and from the store.
        for _ in 0..2 {
            let other = scene.other_incus();
            other
                .run(&["image", "copy", &format!("gate:{name}"), "local:", "--copy-aliases"])
                .ok();
            let copied = other
                .run(&["image", "list", "--format", "csv", "--columns", "F", name])
                .ok();
            assert_eq!(copied.trim(), image.fingerprint);

            let client = scene.stranger();
            let to = client.home().join(name);
            client
                .run(&["image", "export", &format!("gate:{name}"), to.to_str().unwrap()])
                .ok();
            let mut exported: Vec<_> = std::fs::read_dir(client.home())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name))
                .collect();
            // The metadata has the longer name.
            exported.sort_by_key(|path| path.to_str().unwrap().contains(".root"));
            assert_eq!(sha256_of(&exported), image.fingerprint, "{exported:?}");
            folder.wait_for_files(files);
        }
    }
    let told = super::status(&scene.gateway);
    assert_eq!((&told["misses"], &told["images"]), (&2.into(), &2.into()), "{told}");
}

#[test]
fn incus_launches_an_instance_from_the_store() {
    let folder = Folder::new();
    let scene = scene(&folder);
    Images::new()
        .bootable("busybox")
        .import(&scene.incus, &["--alias", "busybox", "--public"]);
    scene.refresh();
    for _ in 0..2 {
        let other = scene.other_incus();
        other.run(&["launch", "--quiet", "gate:busybox", "one"]).ok();
        assert_eq!(other.run(&["exec", "one", "--", "echo", "it runs"]).ok(), "it runs\n");
        other.run(&["delete", "--force", "one"]).ok();
        folder.wait_for_files(2);
    }
    assert_eq!(super::status(&scene.gateway)["misses"], 1);
}
