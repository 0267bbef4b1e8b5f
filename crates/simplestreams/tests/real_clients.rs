//! x
#[test]
fn x() { testing::images::Images::new(); }
