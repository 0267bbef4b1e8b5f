//! A request has administrator rights only if its connection has proved possession of the exact certificate that the current
//! configuration lists, for any set of certificates and any sequence of operations.
//!
//! Random cases are compared with the model in `any_certificate/model.rs`. `PROPTEST_CASES` sets their number and
//! `PROPTEST_RNG_SEED` the seed; a failure reports its seed and the shortest failing case.

mod case;
mod certificates;
mod connection;
mod harness;
mod model;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngSeed, TestRunner};

use case::case;
use harness::Harness;

/// Enough for a few seconds.
const CASES: u32 = 60;
/// Enough to see every outcome.
const MANY: u32 = 200;

#[test]
fn requests_have_the_rights_of_their_certificate_only() {
    let mut config = Config {
        failure_persistence: None,
        // In milliseconds.
        max_shrink_time: 60_000,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if let RngSeed::Random = config.rng_seed {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        config.rng_seed = RngSeed::Fixed(u64::from(now.subsec_nanos()));
    }
    eprintln!("PROPTEST_CASES={} PROPTEST_RNG_SEED={}", config.cases, config.rng_seed);
    let cases = config.cases;
    let harness = Harness::build();
    let held = TestRunner::new(config).run(&case(), |case| {
        harness.run(&case).inspect_err(|failure| eprintln!("{failure}"))
    });
    if let Err(failure) = held {
        panic!("{failure}");
    }
    eprintln!("seen: {:?}", harness.seen.borrow());
    if cases >= MANY {
        assert_eq!(harness.seen.borrow().len(), 6, "not every outcome was seen");
    }
}
