//! What one stranger can do within the limits, others hardly notice: the short form of `make siege`.

use std::path::Path;

use testing::siege::report::SHORT;
use testing::siege::{self, Attack};

/// Those that hurt within seconds.
const SECONDS: u64 = 6;

#[test]
fn no_attack_within_the_limits_hurts_others() {
    let report = siege::run(Path::new(testing::gateway::binary()), &Attack::ALL, &[4], SECONDS);
    println!("{}", report.text(&SHORT));
    assert!(report.broken(&SHORT).is_empty(), "{}", report.text(&SHORT));
}
