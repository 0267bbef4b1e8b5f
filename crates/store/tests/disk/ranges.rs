//! What is read is what was stored, whatever the range.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::Config;
use rustix::fs::{Advice, fadvise};
use store::{BadExport, Format, PartKind, Store};

use super::support::{MIB, Random, Sample, folder, names, noise, open, read, read_all, run};

fn a_sample() -> impl Strategy<Value = Sample> {
    let split = (any::<u32>(), 0..3_000_usize, 0..200_000_usize);
    let unified = (any::<u32>(), 1..200_000_usize);
    prop_oneof![
        split.prop_map(|(seed, metadata, root)| Sample::split(seed.into(), metadata, root)),
        unified.prop_map(|(seed, size)| Sample::unified(seed.into(), size)),
    ]
}

/// Positions that are as often near the seams as anywhere else.
fn positions() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let position = prop_oneof![0..5_000_u32, 0..210_000_u32];
    proptest::collection::vec((position.clone(), position), 20)
}

proptest! {
    #![proptest_config(Config::with_cases(48))]

    #[test]
    fn every_range_is_that_range_of_the_export(sample in a_sample(), ranges in positions(), chunk in 1..70_000_usize) {
        let folder = folder();
        run(async {
            let store = open(folder.path(), MIB);
            let fill = sample.vacant(&store).await;
            let image = sample.send(fill, &sample.body(), chunk).await.expect("a good export").expect("stored");
            let model = sample.export();
            assert_eq!(image.head().length, Some(model.len() as u64));
            assert!(read_all(&image).await == model, "the whole");
            for (start, end) in ranges {
                let clamp = |position: u32| usize::try_from(position).expect("fits").min(model.len());
                let expected = model.get(clamp(start)..clamp(end)).unwrap_or_default();
                let download = image.export(start.into()..end.into());
                assert_eq!(download.remaining(), Some(expected.len() as u64), "{start}..{end}");
                assert!(read(download).await.expect("readable") == expected, "{start}..{end}");
            }
        });
    }
}

/// A download may go on without the disk, from any byte on.
#[test]
fn a_rewritten_export_is_the_stored_one() {
    let mut random = Random(11);
    for sample in [
        Sample::split(1, 200, 9_000),
        Sample::unified(2, 9_000),
        Sample::split(3, 0, 0),
        Sample::unified(4, 1),
    ] {
        let model = sample.export();
        for _ in 0..40 {
            let (skip, chunk) = (random.below(model.len() + 20), 1 + random.below(4_000));
            let mut rewrite = sample.rewrite(skip as u64);
            let mut bytes = Vec::new();
            for chunk in sample.body().chunks(chunk) {
                bytes.extend(rewrite.push(Bytes::copy_from_slice(chunk)).expect("an export").concat());
            }
            let expected = model.get(skip..).unwrap_or_default();
            assert!(
                bytes.len() < expected.len() || expected.is_empty(),
                "the end came too early"
            );
            bytes.extend(rewrite.finish().expect("the image").concat());
            assert!(bytes == expected, "from {skip} on");
        }
    }
    let sample = Sample::unified(2, 9_000);
    let mut rewrite = sample.rewrite(0);
    let sent = rewrite.push(vec![0; 9_000].into()).expect("so far").concat();
    assert_eq!(sent.len(), 8_999);
    assert!(matches!(rewrite.finish(), Err(BadExport::WrongHash { .. })));
}

#[test]
fn an_image_is_described_by_its_files() {
    let folder = folder();
    let root = [b"hsqs".to_vec(), noise(1, 1000)].concat();
    let sample = Sample::new(vec![b"\xfd7zXZ\0".to_vec(), root]);
    run(async {
        let store = open(folder.path(), MIB);
        let image = sample.fill(&store).await;
        let parts: Vec<_> = image
            .parts()
            .iter()
            .map(|part| (part.kind, part.format, part.extension.as_str()))
            .collect();
        let expected = [
            (PartKind::Metadata, Format::Xz, ".tar.xz"),
            (PartKind::Rootfs, Format::Squashfs, ".squashfs"),
        ];
        assert_eq!(parts, expected);
        for (index, bytes) in sample.parts.iter().enumerate() {
            let part = &image.parts()[index];
            assert_eq!((part.size, part.sha256), (bytes.len() as u64, store::Digest::of(bytes)));
            assert!(read(image.part(index, 0..u64::MAX)).await.expect("readable") == *bytes);
            let middle = image.read_at(index, 2, 3).await.expect("readable");
            assert_eq!(middle, bytes[2..5]);
            assert!(image.read_at(index, part.size, 1).await.expect("readable").is_empty());
        }
        assert!(image.read_at(2, 0, 1).await.expect("no such part").is_empty());
    });
}

/// On the disk that has the temporary folder, since a file system in memory has no page cache to lose.
#[test]
fn a_worker_reads_only_what_the_page_cache_has() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sample = Sample::unified(7, 3 << 20);
    run(async {
        let store = open(folder.path(), 4 * MIB);
        let image = sample.fill(&store).await;
        let before = store.counts();
        assert!(read_all(&image).await == sample.export());
        let hot = store.counts();
        assert_eq!(hot.blocking_reads, before.blocking_reads, "hot reads");
        assert!(hot.cached_reads > before.cached_reads);

        forget_pages(&folder.path().join("files"));
        assert!(read_all(&image).await == sample.export());
        let cold = store.counts();
        let blocking = cold.blocking_reads - hot.blocking_reads;
        // One by one there would be 48, but the store and the kernel read ahead.
        assert!((1..=24).contains(&blocking), "{blocking} cold reads");
    });
}

fn forget_pages(files: &std::path::Path) {
    for entry in std::fs::read_dir(files).expect("a folder") {
        let file = File::open(entry.expect("an entry").path()).expect("a file");
        fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
    }
}

#[test]
fn a_store_is_for_threads_and_survives_a_restart() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let folder = folder();
    let samples = [Sample::split(1, 500, 70_000), Sample::unified(2, 80_000)];
    run(async {
        let store: Store = open(folder.path(), MIB);
        is_shared(&store);
        for sample in &samples {
            sample.fill(&store).await;
        }
    });
    assert_eq!(names(folder.path(), "files").len(), 3);
    run(async {
        let store = Arc::new(open(folder.path(), MIB));
        assert_eq!(store.occupancy().bytes, samples.iter().map(Sample::size).sum::<u64>());
        for sample in &samples {
            assert!(read_all(&sample.stored(&store).await).await == sample.export());
        }
        assert_eq!((store.counts().hits, store.counts().misses), (2, 0));
    });
}
