//! The store is full: what goes, and what its clients keep.

use testing::gateway::Gateway;
use testing::scripted::Scripted;
use testing::tls::TlsClient;

use super::sample::{Sample, is_export, list};
use super::{Folder, get, path_of, status, wait_for_status, wait_until};

/// Two of these fit.
const SIZE: usize = 30 << 20;

fn upstream(images: &[Sample]) -> Scripted {
    let images = images.to_vec();
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

fn exports(upstream: &Scripted) -> usize {
    let requests = upstream.requests().into_iter();
    requests.filter(|request| request.target().ends_with("/export")).count()
}

/// Downloads an image, and waits until the store has it.
fn fetch(gateway: &Gateway, image: &Sample) {
    assert!(get(gateway, &image.fingerprint, &[]).body == image.export());
    wait_until(|| status(gateway)["filling"] == 0, || status(gateway).to_string());
}

fn assert_stored(folder: &Folder, images: &[&Sample]) {
    let mut wanted: Vec<_> = images
        .iter()
        .map(|image| folder.path().join("files").join(&image.fingerprint))
        .collect();
    wanted.sort();
    wait_until(
        || folder.files() == wanted,
        || format!("{:?}, not {wanted:?}", folder.files()),
    );
}

#[test]
fn the_least_recently_used_image_goes_and_never_one_in_use() {
    let images: Vec<_> = (0..4).map(|seed| Sample::unified(seed, SIZE)).collect();
    let [first, second, third, fourth] = &images[..] else {
        unreachable!()
    };
    let upstream = upstream(&images);
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    let gateway = &scene.gateway;
    fetch(gateway, first);
    fetch(gateway, second);
    assert_stored(&folder, &[first, second]);
    fetch(gateway, first);
    fetch(gateway, third);
    assert_stored(&folder, &[first, third]);

    // A client that has begun with the first image keeps it, although it was not used for longest.
    let mut raw = TlsClient::tls13().connect(gateway.public()).unwrap();
    let path = path_of(&first.fingerprint);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
        .unwrap();
    let head = raw.read_head().unwrap();
    fetch(gateway, third);
    fetch(gateway, fourth);
    assert_stored(&folder, &[first, fourth]);
    assert!(raw.read_body_of(&head).unwrap() == first.export());
    wait_for_status(gateway, "evicted", 2);
    assert_eq!(exports(&upstream), 4);
}

#[test]
fn images_that_do_not_fit_do_not_displace_each_other_forever() {
    let images: Vec<_> = (10..13).map(|seed| Sample::unified(seed, SIZE)).collect();
    let upstream = upstream(&images);
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    // Each of them in turn is the one that the store has just lost.
    for _ in 0..4 {
        for image in &images {
            fetch(&scene.gateway, image);
        }
    }
    let told = status(&scene.gateway);
    assert_eq!((&told["images"], &told["evicted"]), (&2.into(), &2.into()), "{told}");
    // From then on, two of three come from the store.
    let before = exports(&upstream);
    for image in &images {
        fetch(&scene.gateway, image);
    }
    assert_eq!(exports(&upstream), before + 1);
}

#[test]
fn stalled_downloads_cost_little_memory_and_few_descriptors() {
    const CLIENTS: usize = 150;
    /// Bytes of memory per client, in all that the process uses for it. The benchmark `memory-stalled` measures it exactly.
    const EACH: u64 = 200 << 10;
    let image = Sample::split(20, SIZE);
    let images = [image.clone()];
    let upstream = upstream(&images);
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    let gateway = &scene.gateway;
    fetch(gateway, &image);
    fetch(gateway, &image);
    let (memory, files) = (gateway.memory_now(), gateway.open_files());
    let path = path_of(&image.fingerprint);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut raw = TlsClient::tls13().connect(gateway.public()).unwrap();
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
                .unwrap();
            assert_eq!(raw.read_head().unwrap().status, 200);
            raw
        })
        .collect();
    wait_until(
        || status(gateway)["hits"] == CLIENTS as u64 + 1,
        || status(gateway).to_string(),
    );
    let more = gateway.memory_now().saturating_sub(memory) / CLIENTS as u64;
    println!("{} KiB of memory per stalled download", more >> 10);
    assert!(more <= EACH, "{} KiB per stalled download", more >> 10);
    // All of them share the two files of the image.
    let more = gateway.open_files() - files;
    assert!(more <= CLIENTS + 8, "{more} descriptors for {CLIENTS} clients");
    drop(clients);
}
