//! What goes when the store is full, and what stays.

use std::fs;

use store::{Claim, ClaimError};

use super::support::{MIB, Sample, folder, names, noise, open, read, read_all, run};

const SIZE: usize = 30_000;

fn samples() -> Vec<Sample> {
    (1..=4).map(|seed| Sample::unified(seed, SIZE)).collect()
}

fn has(store: &store::Store, sample: &Sample) -> bool {
    store
        .entries()
        .iter()
        .any(|entry| entry.fingerprint == sample.fingerprint)
}

#[test]
fn the_least_recently_used_goes_first_also_after_a_restart() {
    let folder = folder();
    let [first, second, third, fourth] = &samples()[..] else {
        unreachable!()
    };
    run(async {
        let store = open(folder.path(), 100_000);
        for sample in [first, second, third] {
            drop(sample.fill(&store).await);
        }
        drop(first.stored(&store).await);
        drop(fourth.fill(&store).await);
        assert!(!has(&store, second));
        drop(second.fill(&store).await);
        assert!(!has(&store, third) && has(&store, first));
        store.settle().await;
        assert_eq!(names(folder.path(), "files").len(), 3);
        assert_eq!((store.counts().evicted, store.occupancy().bytes), (2, 90_000));
    });
    run(async {
        // In the order of their use so far: first, fourth, second.
        let store = open(folder.path(), 100_000);
        drop(first.stored(&store).await);
        store.settle().await;
    });
    run(async {
        let store = open(folder.path(), 100_000);
        drop(third.fill(&store).await);
        assert!(!has(&store, fourth) && has(&store, first) && has(&store, second));
    });
    // A smaller size applies at once.
    let store = open(folder.path(), 40_000);
    assert_eq!(
        (
            store.occupancy().images,
            store.occupancy().bytes,
            store.counts().evicted
        ),
        (1, 30_000, 2)
    );
    assert!(has(&store, third));
    assert_eq!(names(folder.path(), "files").len(), 1);
}

#[test]
fn only_a_claim_makes_room() {
    let folder = folder();
    let [first, second, third, fourth] = &samples()[..] else {
        unreachable!()
    };
    run(async {
        let store = open(folder.path(), 100_000);
        for sample in [first, second, third] {
            drop(sample.fill(&store).await);
        }
        assert!(matches!(
            store.join(&first.fingerprint).await,
            Ok(Some(Claim::Stored(_)))
        ));
        assert!(matches!(store.join(&fourth.fingerprint).await, Ok(None)));
        assert_eq!((store.counts().evicted, store.occupancy().filling), (0, 0));
        let fill = fourth.vacant(&store).await;
        assert!(matches!(
            store.join(&fourth.fingerprint).await,
            Ok(Some(Claim::Filling(_)))
        ));
        assert_eq!(store.counts().evicted, 1);
        drop(fill);
    });
}

#[test]
fn images_displace_each_other_once_and_then_slowly() {
    let folder = folder();
    let samples = samples();
    run(async {
        let store = open(folder.path(), 100_000);
        let mut refused = 0;
        for sample in samples.iter().cycle().take(20) {
            match store.claim(&sample.fingerprint, sample.size()).await {
                Ok(Claim::Vacant(fill)) => drop(sample.send(fill, &sample.body(), 10_000).await.expect("an image")),
                Ok(Claim::Stored(_)) => {}
                Ok(Claim::Filling(_)) => unreachable!("one after the other"),
                Err(ClaimError::Turnover) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        // Each time, 20 KB of an image have no room beside three others: five of these are the size of the store.
        assert!(refused > 0);
        assert_eq!((store.counts().evicted, store.counts().no_room), (5, refused));
    });
}

#[test]
fn an_image_in_use_is_never_evicted() {
    let folder = folder();
    let [first, second, third, fourth] = &samples()[..] else {
        unreachable!()
    };
    run(async {
        let store = open(folder.path(), 100_000);
        let used = first.fill(&store).await;
        let mut download = second.fill(&store).await.export(0..u64::MAX);
        assert!(download.next().await.is_some());
        drop(third.fill(&store).await);
        let filling = fourth.vacant(&store).await;
        assert!(has(&store, first) && has(&store, second) && !has(&store, third));
        // What is being filled has its place as well.
        let refused = store.claim(&third.fingerprint, third.size()).await;
        assert!(
            matches!(
                refused,
                Err(ClaimError::NoRoom {
                    needed: 30_000,
                    limit: 100_000
                })
            ),
            "{refused:?}"
        );
        drop(filling);
        drop(fourth.fill(&store).await);
        let large = Sample::unified(9, 90_000);
        assert!(matches!(
            store.claim(&large.fingerprint, large.size()).await,
            Err(ClaimError::NoRoom { .. })
        ));
        assert!(has(&store, fourth), "removed in vain");
        drop((used, download));
        drop(large.fill(&store).await);
        assert_eq!((store.counts().no_room, store.occupancy().images), (2, 1));
    });
}

#[test]
fn a_removed_image_is_gone_at_once_and_readable_to_the_end() {
    let folder = folder();
    let sample = Sample::split(5, 1_000, 300_000);
    run(async {
        let store = open(folder.path(), MIB);
        let image = sample.fill(&store).await;
        let mut download = image.export(0..u64::MAX);
        let first = download.next().await.expect("bytes").expect("no error");
        assert!(store.remove(&sample.fingerprint));
        assert!(!store.remove(&sample.fingerprint));
        assert!(store.get(&sample.fingerprint).await.expect("no error").is_none());
        store.settle().await;
        assert_eq!(
            names(folder.path(), "images").len() + names(folder.path(), "files").len(),
            0
        );
        // The space is free when the last reader has ended.
        assert_eq!(store.occupancy().bytes, sample.size());
        let rest = read_rest(download).await;
        assert!([&first[..], &rest].concat() == sample.export());
        drop(image);
        assert_eq!(store.occupancy().bytes, 0);
        assert_eq!(store.counts().removed, 1);
    });
}

async fn read_rest(mut download: store::Download) -> Vec<u8> {
    let mut rest = Vec::new();
    while let Some(bytes) = download.next().await {
        rest.extend(bytes.expect("no error"));
    }
    rest
}

#[test]
fn images_share_a_file_until_the_last_of_them_goes() {
    let folder = folder();
    let root = noise(6, 50_000);
    let [first, second] = [7, 8].map(|seed| Sample::new(vec![noise(seed, 400), root.clone()]));
    run(async {
        let store = open(folder.path(), MIB);
        drop(first.fill(&store).await);
        drop(second.fill(&store).await);
        assert_eq!(names(folder.path(), "files").len(), 3);
        assert_eq!(store.occupancy().bytes, 50_800);
        store.remove(&first.fingerprint);
        store.settle().await;
        assert_eq!(names(folder.path(), "files").len(), 2);
        assert!(read_all(&second.stored(&store).await).await == second.export());
        // Removed and published again while the deletion is still to come.
        store.remove(&second.fingerprint);
        drop(second.fill(&store).await);
        store.settle().await;
        assert!(read_all(&second.stored(&store).await).await == second.export());
        assert_eq!(store.occupancy().bytes, 50_400);
    });
    // Also after a restart.
    run(async {
        let store = open(folder.path(), MIB);
        drop(first.fill(&store).await);
        store.remove(&second.fingerprint);
        store.settle().await;
        let image = first.stored(&store).await;
        assert!(read(image.part(1, 0..u64::MAX)).await.expect("readable") == root);
        assert_eq!(fs::read_dir(folder.path().join("files")).expect("a folder").count(), 2);
    });
}

#[test]
fn an_export_larger_than_announced_is_not_taken() {
    let folder = folder();
    let sample = Sample::split(9, 100, 1_000);
    run(async {
        let store = open(folder.path(), MIB);
        let Ok(Claim::Vacant(fill)) = store.claim(&sample.fingerprint, sample.size() - 1).await else {
            panic!("not vacant")
        };
        let error = sample
            .send(fill, &sample.body(), 300)
            .await
            .expect_err("one byte too many");
        assert_eq!(
            error.to_string(),
            "Incus sent more than the 1099 bytes that the image has"
        );
    });
}
