//! Disks that are full, read-only or damaged, and directories that somebody else has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use rustix::fs::statvfs;
use store::{Claim, ClaimError, DownloadError, DropReason, FillError, OpenError, Options, Store};
use testing::disk::Disk;

use super::support::{MIB, Sample, assert_empty, folder, names, noise, open, read, read_all, run};

fn dropped(store: &Store) -> Vec<(DropReason, u64)> {
    store
        .counts()
        .dropped
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn a_full_disk_fails_the_fill_and_leaves_nothing() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let (small, large) = (Sample::split(1, 500, 5_000), Sample::split(2, 500, 200_000));
    run(async {
        let store = open(&path, MIB);
        let fill = large.vacant(&store).await;
        let followed = fill.filling().follow();
        let body = large.body();
        let (filled, followed) = tokio::join!(large.send(fill, &body, 10_000), read(followed));
        let is_full =
            |error: &FillError| matches!(error, FillError::Disk(e) if e.kind() == std::io::ErrorKind::StorageFull);
        assert!(is_full(&filled.expect_err("more than the disk has")));
        let (_, error) = followed.expect_err("a cut transfer");
        assert!(
            matches!(&error, DownloadError::Fill(error) if is_full(error)),
            "{error:?}"
        );
        assert_empty(&store, &path).await;
        assert_eq!(store.counts().disk_errors, 1);

        // A thread may still be about to read for the follower, and keeps the deleted file until then.
        while statvfs(&path).expect("a file system").f_bfree < 8 {
            thread::yield_now();
        }
        let image = small.fill(&store).await;
        disk.fill();
        // Even the entry has no room. What is stored is served.
        let other = Sample::unified(3, 10);
        let fill = other.vacant(&store).await;
        let error = other.send(fill, &other.body(), 10).await.expect_err("no room");
        assert!(is_full(&error), "{error}");
        assert!(read_all(&image).await == small.export());
        disk.make_room();
        other.fill(&store).await;
        store.settle().await;
        assert_eq!(names(&path, "incoming"), Vec::<String>::new());
    });
}

#[test]
fn a_disk_that_fails_at_the_end_costs_the_followers_nothing() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let sample = Sample::split(1, 500, 5_000);
    run(async {
        let store = open(&path, MIB);
        let fill = sample.vacant(&store).await;
        let filling = fill.filling();
        let mut writer = sample.with_head(|head| fill.begin(head)).expect("a good header");
        writer.write(sample.body().into()).await.expect("good bytes");
        // The files are complete; the entry has no room any more.
        disk.fill();
        let (filled, followed) = tokio::join!(writer.finish(), read(filling.follow()));
        assert!(matches!(filled, Err(FillError::Disk(_))), "{filled:?}");
        assert!(followed.expect("a whole image") == sample.export());
        drop(filling);
        assert_empty(&store, &path).await;
    });
}

#[test]
fn a_failed_fill_leaves_the_files_of_others_alone() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let root = noise(6, 5_000);
    let [first, second] = [7, 8].map(|seed| Sample::new(vec![noise(seed, 400), root.clone()]));
    run(async {
        let store = open(&path, MIB);
        let in_use = first.fill(&store).await;
        let fill = second.vacant(&store).await;
        let mut writer = second.with_head(|head| fill.begin(head)).expect("a good header");
        writer.write(second.body().into()).await.expect("good bytes");
        disk.fill();
        writer.finish().await.expect_err("no room for the entry");
        drop(in_use);
        store.settle().await;
        assert!(read_all(&first.stored(&store).await).await == first.export());
        assert_eq!((names(&path, "files").len(), names(&path, "images").len()), (2, 1));
    });
}

#[test]
fn a_disk_that_is_full_before_the_store_loses_old_images() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let samples: Vec<_> = (1..=10).map(|seed| Sample::unified(seed, 12_000)).collect();
    run(async {
        let store = open(&path, MIB);
        let mut failures = 0;
        for sample in &samples {
            let fill = sample.vacant(&store).await;
            if sample.send(fill, &sample.body(), 5_000).await.is_err() {
                failures += 1;
                // Room was made for it.
                store.settle().await;
                drop(sample.fill(&store).await);
            }
        }
        assert!(failures > 0, "64 KiB take 120 kB");
        let counts = store.counts();
        assert_eq!((counts.filled, counts.disk_errors), (10, failures));
        assert!(counts.evicted >= 5 && store.occupancy().images >= 3, "{counts:?}");
        assert!(read_all(&samples[9].stored(&store).await).await == samples[9].export());
    });
}

#[test]
fn nothing_is_stored_for_a_while_after_the_disk_has_failed() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let [stored, large, other] = [(1, 100), (2, 200_000), (3, 100)].map(|(seed, size)| Sample::unified(seed, size));
    run(async {
        let store = Store::open(&Options::new(&path, MIB)).expect("a store");
        let image = stored.fill(&store).await;
        let fill = large.vacant(&store).await;
        large.send(fill, &large.body(), 10_000).await.expect_err("no room");
        let claim = store.claim(&other.fingerprint, other.size()).await;
        assert!(matches!(claim, Err(ClaimError::Suspended)), "{claim:?}");
        assert!(read_all(&stored.stored(&store).await).await == stored.export());
        drop(image);
    });
}

#[test]
fn a_read_only_disk_serves_what_it_has() {
    let disk = Disk::mount();
    let path = disk.path().join("store");
    let remount = |how: &str| {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(disk.path())
            .status();
        assert!(status.expect("mount runs").success(), "remount {how}");
    };
    let (stored, other) = (Sample::split(1, 500, 5_000), Sample::unified(2, 500));
    run(async {
        let store = open(&path, MIB);
        drop(stored.fill(&store).await);
        remount("ro");
        assert!(read_all(&stored.stored(&store).await).await == stored.export());
        let fill = other.vacant(&store).await;
        let error = other.send(fill, &other.body(), 100).await.expect_err("read-only");
        assert!(
            matches!(&error, FillError::Disk(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem),
            "{error}"
        );
        // Gone from the answers, although the file cannot be deleted.
        assert!(store.remove(&stored.fingerprint));
        assert!(store.get(&stored.fingerprint).await.expect("no error").is_none());
        store.settle().await;
        assert_eq!((store.counts().disk_errors, store.counts().failed_deletions), (1, 3));
    });
    // What it could not delete is there again, and can be read.
    run(async {
        let store = open(&path, MIB);
        assert!(read_all(&stored.stored(&store).await).await == stored.export());
    });
    remount("rw");
}

/// Damages the file of a part while the store does not look.
type Damage = fn(&Path);

#[test]
fn a_damaged_file_costs_the_image_its_place() {
    let cases: [(Damage, DropReason, bool); 6] = [
        (flip, DropReason::WrongHash, true),
        (rot, DropReason::WrongHash, false),
        (
            |path| {
                let file = fs::OpenOptions::new().write(true).open(path);
                file.expect("a file").set_len(999).expect("shorter");
            },
            DropReason::WrongSize,
            true,
        ),
        (|path| fs::remove_file(path).expect("a file"), DropReason::Missing, true),
        (
            |path| {
                fs::remove_file(path).expect("a file");
                symlink("/dev/zero", path).expect("a link");
            },
            DropReason::Unreadable,
            true,
        ),
        (
            |path| {
                fs::remove_file(path).expect("a file");
                fs::create_dir(path).expect("a folder");
            },
            DropReason::WrongSize,
            true,
        ),
    ];
    let sample = Sample::split(1, 500, 5_000);
    for (damage, reason, is_seen_by_claim) in cases {
        let folder = folder();
        let file = file_of(folder.path(), &sample.parts[1]);
        run(async {
            let store = open(folder.path(), MIB);
            drop(sample.fill(&store).await);
            damage(&file);
            if !is_seen_by_claim {
                let wrong = store.scrub().await;
                assert_eq!(wrong.len(), 1);
                assert_eq!(wrong[0].fingerprint, sample.fingerprint);
            }
            // Fetched anew, over whatever is there.
            let fill = sample.vacant(&store).await;
            store.settle().await;
            assert_eq!(dropped(&store), [(reason, 1)]);
            if file.is_dir() {
                // Not the store's to delete.
                fs::remove_dir(&file).expect("an empty folder");
            }
            sample.send(fill, &sample.body(), 1_000).await.expect("a good export");
            assert!(read_all(&sample.stored(&store).await).await == sample.export());
            assert!(store.scrub().await.is_empty());
        });
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[777] ^= 1;
    fs::write(path, bytes).expect("a file");
}

/// Loses a bit as a disk does, without a change in the file system.
fn rot(path: &Path) {
    let modified = time_of(path);
    flip(path);
    let file = fs::File::open(path).expect("a file");
    file.set_modified(modified).expect("a file of our own");
}

fn time_of(path: &Path) -> SystemTime {
    let metadata = fs::metadata(path).expect("a file");
    metadata.modified().expect("the time of its change")
}

#[test]
fn a_file_with_another_time_is_verified_and_kept() {
    let folder = folder();
    let sample = Sample::split(1, 500, 5_000);
    let files: Vec<_> = sample.parts.iter().map(|part| file_of(folder.path(), part)).collect();
    run(async {
        let store = open(folder.path(), MIB);
        let used = sample.fill(&store).await;
        let sealed = time_of(&files[0]);
        // Both while the image is in use and while it is not, as after a restore from a backup.
        for used in [Some(used), None] {
            for file in &files {
                let file = fs::File::open(file).expect("a file");
                file.set_modified(SystemTime::now()).expect("a file of our own");
            }
            assert!(read_all(&sample.stored(&store).await).await == sample.export());
            assert!(files.iter().all(|file| time_of(file) == sealed));
            drop(used);
        }
        assert_eq!(dropped(&store), []);
    });
}

#[test]
fn a_file_changed_while_it_is_read_ends_the_download_with_an_error() {
    let folder = folder();
    let sample = Sample::unified(1, 300_000);
    run(async {
        let store = open(folder.path(), MIB);
        let mut download = sample.fill(&store).await.export(0..u64::MAX);
        assert!(download.next().await.is_some_and(|next| next.is_ok()));
        flip(&file_of(folder.path(), &sample.parts[0]));
        let (bytes, error) = rest(download).await;
        assert!(bytes < 300_000);
        assert!(
            matches!(&error, Some(DownloadError::Read(error)) if error.is_change()),
            "{error:?}"
        );
        assert!(matches!(sample.claim(&store).await, Claim::Vacant(_)));
        assert_eq!(dropped(&store), [(DropReason::WrongHash, 1)]);
    });
}

fn file_of(store: &Path, content: &[u8]) -> PathBuf {
    store.join("files").join(store::Digest::of(content).to_string())
}

#[test]
fn a_file_cut_while_it_is_read_ends_the_download_with_an_error() {
    let folder = folder();
    let sample = Sample::unified(1, 300_000);
    run(async {
        let store = open(folder.path(), MIB);
        let mut download = sample.fill(&store).await.export(0..u64::MAX);
        assert!(download.next().await.is_some_and(|next| next.is_ok()));
        let file = fs::OpenOptions::new()
            .write(true)
            .open(file_of(folder.path(), &sample.parts[0]));
        file.expect("a file").set_len(100_000).expect("a shorter file");
        let (bytes, error) = rest(download).await;
        assert!(bytes < 300_000);
        assert!(matches!(error, Some(DownloadError::Read(_))), "{error:?}");
        assert_eq!(dropped(&store), [(DropReason::WrongSize, 1)]);
        assert!(matches!(sample.claim(&store).await, Claim::Vacant(_)));
    });
}

async fn rest(mut download: store::Download) -> (u64, Option<DownloadError>) {
    let mut error = None;
    while let Some(next) = download.next().await {
        error = next.err();
    }
    (download.position(), error)
}

#[test]
fn a_damaged_file_costs_every_image_that_has_it() {
    let folder = folder();
    let root = noise(6, 5_000);
    let [first, second] = [7, 8].map(|seed| Sample::new(vec![noise(seed, 400), root.clone()]));
    let other = Sample::unified(9, 1_000);
    run(async {
        let store = open(folder.path(), MIB);
        for sample in [&first, &second, &other] {
            drop(sample.fill(&store).await);
        }
        flip(&file_of(folder.path(), &root));
        assert_eq!(store.scrub().await.len(), 1);
        store.settle().await;
        assert_eq!(dropped(&store), [(DropReason::WrongHash, 2)]);
        assert_eq!((store.occupancy().images, store.occupancy().bytes), (1, 1_000));
        assert_eq!(names(folder.path(), "files").len(), 1);
    });
}

#[test]
fn opening_repairs_and_touches_nothing_else() {
    let folder = folder();
    let path = folder.path();
    let samples: Vec<_> = (1..=5).map(|seed| Sample::split(seed * 10, 100, 1_000)).collect();
    run(async {
        let store = open(path, MIB);
        for sample in &samples {
            drop(sample.fill(&store).await);
        }
    });
    let entry = |index: usize| path.join("images").join(format!("{}.json", samples[index].fingerprint));
    fs::remove_file(file_of(path, &samples[1].parts[1])).expect("a file");
    fs::write(file_of(path, &samples[2].parts[0]), b"short").expect("a file");
    fs::write(entry(3), b"{\"fingerprint\":").expect("an entry");
    // The entry of another image.
    fs::copy(entry(0), entry(4)).expect("an entry");
    // A unified image that is another one.
    let (unified, content) = (
        samples[0].fingerprint.to_string().replace('0', "1"),
        store::Digest::of(&samples[0].parts[1]),
    );
    let text = format!(
        r#"{{"fingerprint":"{unified}","parts":[{{"kind":"unified","sha256":"{content}","size":1000,"extension":"","format":"other"}}]}}"#
    );
    fs::write(path.join("images").join(format!("{unified}.json")), text).expect("an entry");
    fs::write(path.join("files").join("0".repeat(64)), b"nobody's").expect("a file");
    fs::write(path.join("incoming").join("17"), b"torn").expect("a file");
    let foreign = [
        path.join("files/README"),
        path.join("incoming/notes"),
        path.join("images/list.json"),
    ];
    for file in &foreign {
        fs::write(file, b"not the store's").expect("a file");
    }
    let store = open(path, MIB);
    let expected = [
        (DropReason::BadEntry, 3),
        (DropReason::Missing, 1),
        (DropReason::WrongSize, 1),
    ];
    assert_eq!(dropped(&store), expected);
    assert_eq!((store.occupancy().images, store.occupancy().bytes), (1, 1_100));
    assert_eq!(names(path, "files").len(), 3);
    assert_eq!(names(path, "images").len(), 2);
    assert_eq!(names(path, "incoming"), ["notes"]);
    assert!(foreign.iter().all(|file| file.exists()));
    run(async { assert!(store.scrub().await.is_empty()) });
}

#[test]
fn a_store_is_open_once() {
    let folder = folder();
    let store = open(folder.path(), MIB);
    let error = Store::open(&Options::new(folder.path(), MIB)).expect_err("open twice");
    assert!(matches!(error, OpenError::InUse(_)));
    let text = format!(
        "{}: another process uses this store; stop it, or choose another directory",
        folder.path().display()
    );
    assert_eq!(error.to_string(), text);
    drop(store);
    open(folder.path(), MIB);
}
