//! Strangers get the published images with the clients that they use: the real `incus`, another Incus, curl.

use std::path::PathBuf;

use testing::certificates::Certificates;
use testing::client::{Answer, Client, Curl};
use testing::images::{Image, Images, Kind, export_fingerprint, sha256, sha256_of};
use testing::scene::Scene;

/// More than the buffers of a connection: the body is streamed.
const LARGE_MEBIBYTES: u64 = 8;

/// Published: one image of each kind, and names with a slash and a colon.
struct Published {
    split: Image,
    unified: Image,
    slash: Image,
    colon: Image,
}

impl Published {
    fn in_(scene: &Scene, images: &Images) -> Self {
        let published = Self {
            split: images.split("a split one"),
            unified: images.unified("a unified one"),
            slash: images.random(Kind::Split, "one with slashes in its name", LARGE_MEBIBYTES),
            colon: images.random(Kind::Unified, "one with a colon in its name", LARGE_MEBIBYTES),
        };
        for (image, alias) in published.named() {
            image.import(&scene.incus, &["--public", "--alias", alias]);
        }
        scene.refresh();
        published
    }

    fn named(&self) -> [(&Image, &'static str); 4] {
        [
            (&self.split, "split"),
            (&self.unified, "unified"),
            (&self.slash, "with/two/slashes"),
            (&self.colon, "crynux-node:v2.6.0"),
        ]
    }
}

#[test]
fn remote_add_works_with_and_without_public() {
    let scene = Scene::start();
    let url = scene.gateway.public_url();
    let client = Client::stranger();

    for (name, option) in [("said", Some("--public")), ("unsaid", None)] {
        let mut arguments = vec!["remote", "add", name, &url, "--accept-certificate"];
        arguments.extend(option);
        client.run(&arguments).ok();
        let remotes = client.run(&["remote", "list", "--format=csv"]).ok();
        assert!(
            remotes.contains(&format!("{name},{url},incus,tls,YES,NO,NO")),
            "{remotes}"
        );
        client.run(&["image", "list", &format!("{name}:")]).ok();
    }

    // Without --accept-certificate, the client shows the fingerprint.
    let question = client.run(&["remote", "add", "asked", &url, "--public"]);
    let fingerprint = scene.setup.server.fingerprint();
    assert!(question.stdout.contains(&fingerprint), "{question}");
    question.fails();
}

#[test]
fn a_certificate_of_a_known_authority_needs_no_confirmation() {
    let certificates = Certificates::new();
    let authority = certificates.authority("authority");
    let issued = certificates.server_issued_by(&authority, "issued");
    let scene = Scene::start_with(|setup| setup.server = issued);
    let url = scene.gateway.public_url();
    let client = Client::stranger().trusting(&authority);

    client.run(&["remote", "add", "gate", &url, "--public"]).ok();
    client.run(&["remote", "add", "unsaid", &url]).ok();
    client.run(&["image", "list", "gate:"]).ok();
    client.run(&["image", "list", "unsaid:"]).ok();
}

#[test]
fn images_are_found_by_alias_fingerprint_and_prefix() {
    let scene = Scene::start();
    let images = Images::new();
    let published = Published::in_(&scene, &images);
    let private = images.split("a private one");
    private.import(&scene.incus, &["--alias", "private"]);
    let client = scene.stranger();

    let all = list(&client, &[]);
    let mut expected: Vec<_> = published
        .named()
        .iter()
        .map(|(image, _)| image.fingerprint.clone())
        .collect();
    expected.sort();
    assert_eq!(all, expected);
    let unified = [published.unified.fingerprint.clone()];
    assert_eq!(list(&client, &["description=a unified one"]), unified);
    assert_eq!(list(&client, &["unified"]), unified);
    assert_eq!(list(&client, &["os=Nothing"]), [""; 0]);
    assert_eq!(list(&client, &[&published.unified.fingerprint[..12]]), unified);

    for (image, alias) in published.named() {
        let fingerprint = &image.fingerprint;
        for name in [alias, fingerprint, &fingerprint[..12]] {
            let shown = client.run(&["image", "info", &format!("gate:{name}")]).ok();
            assert!(
                shown.starts_with(&format!("Fingerprint: {fingerprint}\n")),
                "{name}: {shown}"
            );
            assert!(shown.contains(&format!("    - {alias}\n")), "{name}: {shown}");
            let files = export(&client, name);
            assert_eq!(files.len(), image.files.len(), "{name}: {files:?}");
            assert_eq!(&sha256_of(&files), fingerprint, "{name}: {files:?}");
        }
    }

    for name in ["private", &private.fingerprint, &private.fingerprint[..12], "nothing"] {
        let name = format!("gate:{name}");
        for command in ["info", "export"] {
            let complaint = client.run(&["image", command, &name]).fails();
            assert!(complaint.contains("not found"), "{complaint}");
        }
    }
}

#[test]
fn another_incus_pulls_images_through_the_gateway() {
    let scene = Scene::start();
    let published = Published::in_(&scene, &Images::new());
    let target = scene.other_incus();

    for (image, alias) in published.named() {
        let fingerprint = &image.fingerprint;
        let copy = |name: &str, option: &str| {
            let copy = ["image", "copy", &format!("gate:{name}"), "local:", option, "--quiet"];
            target.run(&copy).ok();
        };
        copy(alias, "--copy-aliases");
        let shown = target.run(&["image", "info", &format!("local:{alias}")]).ok();
        assert!(
            shown.starts_with(&format!("Fingerprint: {fingerprint}\n")),
            "{alias}: {shown}"
        );

        // In relay mode the client downloads the image, and accepts only fingerprints.
        for option in ["--mode=pull", "--mode=relay"] {
            target.run(&["image", "delete", fingerprint]).ok();
            copy(&fingerprint[..12], option);
            target.run(&["image", "info", fingerprint]).ok();
        }
    }
}

#[test]
fn an_instance_is_launched_from_the_gateway() {
    let scene = Scene::start();
    let image = Images::new().bootable("busybox");
    image.import(&scene.incus, &["--public", "--alias", "busybox:v1"]);
    let target = scene.other_incus();

    target.run(&["launch", "gate:busybox:v1", "box", "--quiet"]).ok();
    let said = target.run(&["exec", "box", "--", "sh", "-c", "cat /etc/mark"]);
    target.run(&["delete", "--force", "box"]).ok();
    assert!(said.ok().starts_with("mark:"));
}

#[test]
fn every_version_of_http_and_tls_is_served() {
    let scene = Scene::start();
    let published = Published::in_(&scene, &Images::new());
    let url = scene.gateway.public_url();

    for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for (tls, name) in [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")] {
            let floor = format!("--tlsv{tls}");
            let get = |path: &str| {
                let curl = Curl::get(format!("{url}{path}")).with([http, &floor, "--tls-max", tls, "--verbose"]);
                let answer = curl.trusting(&scene.setup.server).answer();
                assert_eq!(
                    (answer.status, answer.version.as_str()),
                    (200, version),
                    "{name} {path}"
                );
                assert!(
                    answer.complaints.contains(&format!("SSL connection using {name}")),
                    "{}",
                    answer.complaints
                );
                answer
            };
            assert_eq!(get("/1.0").json()["metadata"]["auth"], "untrusted");
            assert_eq!(get("/1.0/images").json()["metadata"].as_array().unwrap().len(), 4);
            for (image, _) in published.named() {
                let answer = get(&format!("/1.0/images/{}/export", image.fingerprint));
                assert_eq!(export_fingerprint(&answer), image.fingerprint, "{name} {version}");
            }
        }
    }
}

#[test]
fn ranges_of_a_unified_image_are_served_as_by_incus() {
    let scene = Scene::start();
    let published = Published::in_(&scene, &Images::new());
    let whole = std::fs::read(&published.unified.files[0]).unwrap();
    let size = whole.len();
    let export = format!("/1.0/images/{}/export", published.unified.fingerprint);
    let ask = |at: &str, headers: &[&str]| {
        let curl = Curl::get(format!("{at}{export}"));
        headers.iter().fold(curl, |curl, line| curl.header(line)).answer()
    };
    let compare = |headers: &[&str], status: u16| {
        let ours = ask(&scene.gateway.public_url(), headers);
        let incus = ask(&scene.incus.url(), headers);
        assert_eq!(ours.status, status, "{headers:?}");
        assert_eq!(comparable(&ours), comparable(&incus), "{headers:?}");
        assert_eq!(ours.header("cache-control"), Some("no-cache"), "{headers:?}");
        ours
    };

    let answer = compare(&[], 200);
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(sha256(&[&answer.body]), published.unified.fingerprint);
    let modified = answer.header("last-modified").unwrap().to_owned();

    let answer = compare(&["Range: bytes=100-299"], 206);
    assert_eq!(answer.body, whole[100..300]);
    assert_eq!(
        answer.header("content-range"),
        Some(format!("bytes 100-299/{size}").as_str())
    );
    assert_eq!(compare(&["Range: bytes=-50"], 206).body, whole[size - 50..]);
    assert_eq!(
        compare(&[&format!("Range: bytes={}-", size - 7)], 206).body,
        whole[size - 7..]
    );

    let answer = compare(&[&format!("Range: bytes={size}-")], 416);
    assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str()));
    // Incus sends every one of several ranges, and rejects invalid ones.
    for range in ["junk", "bytes=0-0,2-2", "bytes=0-0,0-0,0-0"] {
        let answer = ask(&scene.gateway.public_url(), &[&format!("Range: {range}")]);
        assert_eq!((answer.status, &answer.body), (200, &whole), "{range}");
    }

    let old = "Tue, 14 Nov 2023 22:13:20 GMT";
    let part = "Range: bytes=0-9";
    assert_eq!(
        compare(&[part, &format!("If-Range: {modified}")], 206).body,
        whole[..10]
    );
    assert_eq!(compare(&[part, &format!("If-Range: {old}")], 200).body, whole);
    assert_eq!(compare(&[&format!("If-Modified-Since: {modified}")], 304).body, b"");
    assert_eq!(compare(&[&format!("If-Modified-Since: {old}")], 200).body, whole);
}

#[test]
fn a_split_image_is_always_served_completely() {
    let scene = Scene::start();
    let image = Images::new().split("a split one");
    image.import(&scene.incus, &["--public"]);
    let url = format!("{}/1.0/images/{}/export", scene.gateway.public_url(), image.fingerprint);

    let answer = Curl::get(url).header("Range: bytes=0-9").answer();
    assert_eq!(answer.status, 200);
    assert_eq!(export_fingerprint(&answer), image.fingerprint);
}

#[test]
fn images_all_publishes_the_whole_default_project() {
    let scene = Scene::start_with(|setup| "all".clone_into(&mut setup.images));
    let images = Images::new();
    let incus = &scene.incus;
    let public = images.split("a public one");
    let private = images.unified("a private one");
    let elsewhere = images.unified("one of another project");
    public.import(incus, &["--public", "--alias", "public"]);
    private.import(incus, &["--alias", "private"]);
    incus
        .run(&["project", "create", "other", "--config=features.images=true"])
        .ok();
    elsewhere.import(incus, &["--public", "--alias", "elsewhere", "--project=other"]);
    incus.run(&["config", "set", "user.secret=hunter2"]).ok();
    scene.refresh();
    let client = scene.stranger();

    let mut expected = [public.fingerprint.clone(), private.fingerprint.clone()];
    expected.sort();
    assert_eq!(list(&client, &[]), expected);
    for (image, name) in [(&public, "public"), (&private, "private")] {
        client.run(&["image", "info", &format!("gate:{name}")]).ok();
        assert_eq!(sha256_of(&export(&client, name)), image.fingerprint);
    }
    for path in ["/1.0/images?project=other", "/1.0/images?all-projects=true"] {
        assert_eq!(scene.get(path).status, 400, "{path}");
    }
    for query in ["", "?project=other"] {
        let fingerprint = &elsewhere.fingerprint;
        assert_eq!(
            scene.get(&format!("/1.0/images/{fingerprint}{query}")).status,
            404,
            "{query}"
        );
        assert_eq!(
            scene.get(&format!("/1.0/images/{fingerprint}/export{query}")).status,
            404,
            "{query}"
        );
        assert_eq!(
            scene.get(&format!("/1.0/images/aliases/elsewhere{query}")).status,
            404,
            "{query}"
        );
    }
    let server = scene.get("/1.0");
    assert_eq!(server.json()["metadata"]["config"], serde_json::json!({}));
    assert!(!server.text().contains("hunter2"));
}

/// Returns the fingerprints that `incus image list` shows, sorted.
fn list(client: &Client, filters: &[&str]) -> Vec<String> {
    let mut arguments = vec!["image", "list", "gate:", "--format=csv", "--columns=F"];
    arguments.extend(filters);
    let mut lines: Vec<String> = client.run(&arguments).ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Returns the files of `incus image export`, in the order of the fingerprint.
fn export(client: &Client, name: &str) -> Vec<PathBuf> {
    let folder = client.home().join(format!("export of {}", name.replace('/', "-")));
    std::fs::create_dir(&folder).expect("a temporary folder can be made");
    let target = folder.join("image");
    let target = target.to_str().expect("a temporary folder's name is plain");
    client
        .run(&["image", "export", &format!("gate:{name}"), target, "--quiet"])
        .ok();
    let entries = std::fs::read_dir(&folder).expect("the folder made above");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    // Of two, the second is `image.root`.
    files.sort_by_key(|path| path.extension().is_some_and(|extension| extension == "root"));
    files
}

/// Returns the parts of a response that must equal Incus's.
fn comparable(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    // `date` differs by time, `x-content-type-options` belongs to error texts, and Incus sends no `cache-control`.
    let ours = ["cache-control", "connection", "date", "x-content-type-options"];
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .cloned()
        .collect();
    headers.sort();
    (answer.status, headers, answer.body.clone())
}
