//! Paths of files.

use simplestreams::{Family, Severity, View, check};

use super::support::{OTHER, ROOT, WHOLE, assert_only, document, of, only, product, whole};

#[test]
fn colons_in_paths_stay_and_percent_signs_are_reported() {
    let at = |path: &str| of(&[whole(WHOLE).replace("images/r.squashfs", path)]);
    let view = View::of(Family::Incus6, &[&at("images/20180716_12:00/r.squashfs")]);
    assert_eq!(view.images[0].files[1].path, "images/20180716_12:00/r.squashfs");
    assert_eq!(check(&[&at("images/20180716_12:00/r.squashfs")]), []);
    let text = |path: &str| only(&at(path)).problem.to_string();
    assert_eq!(
        text("images/12%3A00.squashfs"),
        "clients do not agree on how to encode '%' in \"images/12%3A00.squashfs\""
    );
    assert_eq!(
        text("a b.squashfs"),
        "clients do not agree on how to encode ' ' in \"a b.squashfs\""
    );
    assert_eq!(
        text("images/root"),
        "the file name of \"images/root\" has no dot; `incus image export` crashes"
    );
    assert_eq!(
        text("images/../r.squashfs"),
        "clients resolve \"images/../r.squashfs\" before they ask for it"
    );
}

#[test]
fn absolute_paths_never_work_and_rooted_ones_are_relative() {
    let url = of(&[whole(WHOLE).replace("images/r.", "https://example.org/r.")]);
    assert_eq!(only(&url).problem.severity(), Severity::Broken);
    let text =
        "clients take the URL \"https://example.org/r.squashfs\" for a path below the remote's own URL; downloads fail";
    assert_eq!(only(&url).problem.to_string(), text);
    let rooted = of(&[whole(WHOLE).replace("images/r.", "/incus/r.")]);
    assert_eq!(only(&rooted).problem.severity(), Severity::Doubtful);
}

#[test]
fn a_root_that_another_image_overwrote_is_reported() {
    // Both roots were named after one metadata file.
    let other = whole(OTHER).replace(ROOT, &"8".repeat(64));
    let products = document(&[
        ("one", &product("", "20240101", &whole(WHOLE))),
        ("two", &product("", "20240102", &other)),
    ]);
    let text = r#"product "two", version "20240102", item "squashfs", key "path": product "one", version "20240101", item "squashfs" has another hash or size for the same path; one of the two downloads fails (all clients)"#;
    assert_only(&products, Severity::Broken, text);
}
