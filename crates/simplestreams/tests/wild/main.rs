//! What image servers in the wild do, and what each family of clients makes of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fields;
mod hashes;
mod index;
mod items;
mod owners;
mod paths;
mod support;

use simplestreams::{Families, check};

use support::{WHOLE, seen, with};

#[test]
fn a_good_tree_has_no_findings() {
    let products = with(r#""aliases":"a","#);
    assert_eq!(check(&[&products]), []);
    assert_eq!(seen(&products, WHOLE), Families::ALL);
}
