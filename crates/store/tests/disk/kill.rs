//! `kill -9` at any moment leaves a store that opens clean.

use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use store::Claim;

use super::support::{MIB, Random, Sample, names, noise, open, run};

const ROUNDS: u64 = 25;
const FOLDER: &str = "STORE_TEST_FOLDER";
const SEED: &str = "STORE_TEST_SEED";

/// Twelve images, of which four share their root.
fn samples() -> Vec<Sample> {
    let shared = noise(99, 40_000);
    (1..=12)
        .map(|seed| match seed % 3 {
            0 => Sample::unified(seed, 30_000),
            1 => Sample::split(seed, 300, 60_000),
            _ => Sample::new(vec![noise(seed, 300), shared.clone()]),
        })
        .collect()
}

/// Fills and removes images until it is killed, and says what it has done.
#[test]
#[ignore = "the process that the other test kills"]
fn child() {
    let (Some(folder), Some(seed)) = (env::var_os(FOLDER), env::var(SEED).ok()) else {
        return;
    };
    let mut random = Random(seed.parse().expect("a number"));
    let samples = samples();
    let say = |what: &str, index: usize| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{what} {index}")
            .and_then(|()| out.flush())
            .expect("the test listens");
    };
    run(async {
        let store = open(Path::new(&folder), 4 * MIB);
        say("open", 0);
        loop {
            let index = random.below(samples.len());
            let sample = &samples[index];
            match sample.claim(&store).await {
                Claim::Vacant(fill) => {
                    sample
                        .send(fill, &sample.body(), 1 + random.below(9_000))
                        .await
                        .expect("a good export");
                    say("stored", index);
                }
                _ => {
                    say("removing", index);
                    store.remove(&sample.fingerprint);
                }
            }
        }
    });
}

#[test]
fn a_killed_store_opens_clean_with_all_that_was_stored() {
    // On a disk, where every step takes a while.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let samples = samples();
    let mut stored: HashSet<usize> = HashSet::new();
    let mut lines = 0;
    for round in 0..ROUNDS {
        lines += run_and_kill(folder.path(), round, &mut stored);
        check(folder.path(), &samples, &stored);
    }
    assert!(
        lines > usize::try_from(ROUNDS).expect("small") * 2,
        "killed too early: {lines} lines"
    );
}

/// Lets the child work for a random time. Notes what it has stored, and returns how much it has said.
fn run_and_kill(folder: &Path, seed: u64, stored: &mut HashSet<usize>) -> usize {
    let mut changes = watch(folder);
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    assert!(out.any(|line| line == "open 0"), "the child does not open the store");
    // Between any two steps on the disk.
    let mut random = Random(seed);
    for _ in 0..random.below(60) {
        let read = changes.read(&mut [0; 4096]);
        assert!(read.expect("a change") > 0);
    }
    thread::sleep(Duration::from_micros(random.next() % 500));
    child.kill().expect("it runs");
    let mut lines = 0;
    for line in out {
        let (what, index) = line.split_once(' ').expect("two words");
        let index = index.parse().expect("an index");
        match what {
            "stored" => stored.insert(index),
            _ => stored.remove(&index),
        };
        lines += 1;
    }
    child.wait().expect("it has ended");
    lines
}

/// A file that can be read whenever something in the store has got a name or lost it.
fn watch(store: &Path) -> File {
    let changes = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
    for folder in ["files", "images", "incoming"] {
        let folder = store.join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&changes, folder, names).expect("a watch");
    }
    changes.into()
}

/// What was stored is there, nothing else is left, and all of it is right.
fn check(folder: &Path, samples: &[Sample], stored: &HashSet<usize>) {
    let store = open(folder, 4 * MIB);
    let counts = store.counts();
    assert_eq!(
        counts.dropped.iter().map(|(_, count)| count).sum::<u64>(),
        0,
        "{counts:?}"
    );
    let entries = store.entries();
    for index in stored {
        let fingerprint = samples[*index].fingerprint;
        assert!(
            entries.iter().any(|entry| entry.fingerprint == fingerprint),
            "image {index} is lost"
        );
    }
    assert_eq!(names(folder, "incoming"), Vec::<String>::new());
    let parts: HashSet<String> = entries
        .iter()
        .flat_map(|entry| &entry.parts)
        .map(|part| part.sha256.to_string())
        .collect();
    assert_eq!(names(folder, "files").into_iter().collect::<HashSet<_>>(), parts);
    run(async { assert!(store.scrub().await.is_empty()) });
}
