//! An attack within the limits hardly affects other clients: the short form of `make siege`.

use testing::siege::report::SHORT;
use testing::siege::{Attack, Plan};

#[test]
fn no_attack_within_the_limits_harms_other_clients() {
    // A debug build needs a hundred times as long for a list as a release build.
    let report = testing::siege::run(&Plan {
        gateway: testing::gateway::binary().into(),
        images: 100,
        attacks: Attack::ALL.to_vec(),
        addresses: vec![1],
        seconds: 4,
    });
    println!("{}", report.text(&SHORT));
    assert!(report.broken(&SHORT).is_empty(), "{}", report.text(&SHORT));
}
