//! Whatever happens to the images of an Incus, strangers see what Incus itself shows a client without a certificate, in both
//! protocols, and every file has its hash.
//!
//! A history is a random sequence of changes. After each change, the public port must agree with Incus within `public.max_age`.
//! `PROPTEST_CASES` is the number of changes and `PROPTEST_RNG_SEED` the seed; both are printed.

mod change;
mod stranger;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng};
use testing::scene::Scene;

use change::Library;
use stranger::Stranger;

/// Enough for some seconds.
const CHANGES: u32 = 40;
/// Changes between two complete comparisons, with every file.
const COMPLETE: u32 = 8;
/// `public.max_age` and the time for the requests on a busy machine.
const LATEST: Duration = Duration::from_secs(4);
/// Time for the store to fetch and verify new images.
const FETCHED: Duration = Duration::from_secs(20);

#[test]
fn strangers_see_what_incus_shows_them_after_each_change() {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CHANGES;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()),
    };
    println!("PROPTEST_CASES={} PROPTEST_RNG_SEED={seed}", config.cases);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);

    let scene = Scene::start_with(|setup| {
        "max_age = \"200ms\"\nsimplestreams = true".clone_into(&mut setup.more_public);
        "[store]\ndirectory = \"store\"\nsize = \"1GiB\"".clone_into(&mut setup.more);
    });
    let library = Library::new(&scene.incus);
    let mut paths = BTreeSet::new();
    let mut slowest = Duration::ZERO;
    let mut history = Vec::new();
    for number in 1..=config.cases {
        history.push(library.change(&mut random));
        let changed = Instant::now();
        // A restart ends kept connections.
        let mut stranger = Stranger::of(&scene);
        loop {
            let (incus, gateway) = (stranger.lists_of_incus(), stranger.lists_of_gateway());
            if incus == gateway {
                break;
            }
            assert!(
                changed.elapsed() < LATEST,
                "after {history:#?}\nIncus: {incus:#?}\ngateway: {gateway:#?}"
            );
        }
        slowest = slowest.max(changed.elapsed());
        stranger.compare_each(&library.fingerprints(), &library.names());
        if number.is_multiple_of(COMPLETE) || number == config.cases {
            stranger.compare_downloads(&library.fingerprints());
            let begun = Instant::now();
            let listed = loop {
                let listed = stranger.simplestreams();
                let published = stranger.lists_of_incus();
                if listed.fingerprints() == published.fingerprints() {
                    break listed;
                }
                assert!(
                    begun.elapsed() < FETCHED,
                    "after {history:#?}\n{listed:#?}\n{published:#?}"
                );
            };
            listed.assert_names_are_of(&stranger.lists_of_incus());
            paths.extend(stranger.compare_files(&listed));
            let listed = stranger.paths_of(&listed);
            for gone in paths.difference(&listed) {
                assert_eq!(scene.get(gone).status, 404, "{gone} after {history:#?}");
            }
        }
    }
    println!("agreed after {} ms at the latest", slowest.as_millis());
}
