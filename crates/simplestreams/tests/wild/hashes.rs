//! Combined hashes, fingerprints, and what a download is verified with.

use simplestreams::{Families, Family, Severity, View, check};

use super::support::{
    INCUS, OTHER, ROOT, WHOLE, assert_only, combined, document, metadata, of, only, product, root, seen, whole,
};

#[test]
fn images_without_combined_hashes_are_hidden() {
    let products = of(&[
        metadata("incus.tar.xz", ""),
        metadata("lxd.tar.xz", ""),
        root("squashfs"),
    ]);
    assert!(
        Family::ALL
            .iter()
            .all(|&family| View::of(family, &[&products]).images.is_empty())
    );
    let place = r#"product "p", version "20240101_1200", item "squashfs""#;
    let text = r#""combined_squashfs_sha256" is missing, from which clients take the fingerprint; they skip the image (all clients)"#;
    assert_only(&products, Severity::Hidden, &format!("{place}: {text}"));
}

#[test]
fn the_general_hash_serves_archives_only() {
    let general = combined("sha256", WHOLE);
    let with = |ftype| {
        of(&[
            metadata("incus.tar.xz", &general),
            metadata("lxd.tar.xz", &general),
            root(ftype),
        ])
    };
    assert_eq!(seen(&with("root.tar.xz"), WHOLE), Families::ALL);
    assert_eq!(check(&[&with("root.tar.xz")]), []);
    assert_eq!(seen(&with("squashfs"), WHOLE), Families::NONE);
    assert_eq!(only(&with("squashfs")).problem.severity(), Severity::Hidden);
}

#[test]
fn missing_sizes_and_hashes_break_downloads() {
    let parsed = of(&[whole(WHOLE).replace(r#""size":7"#, r#""unknown":7"#)]);
    let size: Vec<_> = check(&[&parsed]).iter().map(ToString::to_string).collect();
    assert_eq!(size.len(), 2, "{size:?}");
    let text =
        "the file's size is missing or 0; clients that stop reading there get an empty file (LXD ≥ 5.0.4, ≥ 5.21)";
    assert!(size.iter().all(|finding| finding.ends_with(text)), "{size:?}");

    for odd in ["", &ROOT[1..], &ROOT.replace('2', "A")] {
        let parsed = of(&[whole(WHOLE).replace(ROOT, odd)]);
        let finding = only(&parsed);
        assert_eq!(
            (finding.families, finding.problem.severity()),
            (Families::ALL, Severity::Broken),
            "{finding}"
        );
        assert_eq!(
            finding.place.to_string(),
            r#"product "p", version "20240101_1200", item "squashfs", key "sha256""#
        );
        assert_eq!(seen(&parsed, WHOLE), Families::ALL, "it is listed nevertheless");
    }
}

#[test]
fn a_wrong_combined_hash_shows_where_two_disagree() {
    // The documents cannot tell which is right: both clients list what stands there.
    let right = metadata("incus.tar.xz", &combined("squashfs_sha256", WHOLE));
    let wrong = metadata("lxd.tar.xz", &combined("squashfs_sha256", OTHER));
    let products = of(&[right, wrong, root("squashfs")]);
    assert!(INCUS.iter().all(|family| seen(&products, WHOLE).contains(family)));
    assert_eq!(View::of(Family::Lxd5, &[&products]).images[0].fingerprint, OTHER);
    let findings: Vec<_> = check(&[&products]).iter().map(ToString::to_string).collect();
    let differ = |item: &str, other: &str, families: Families| {
        let place = format!(r#"product "p", version "20240101_1200", item "{item}""#);
        format!(
            "{place}: the same files have the fingerprint {other} elsewhere; clients that verify it refuse one of the two ({families})"
        )
    };
    let incus = INCUS | Family::LxdTransition.into();
    let lxd = Families::of(&[Family::Lxd5, Family::LxdDebian13, Family::Lxd]);
    let chance = format!(
        r#"product "p", version "20240101_1200", item "lxd.tar.xz": these clients take either this metadata or that of item "incus.tar.xz", by chance, and skip the other ({})"#,
        Family::LxdTransition
    );
    assert_eq!(
        findings,
        [
            differ("incus.tar.xz", OTHER, incus),
            chance,
            differ("lxd.tar.xz", WHOLE, lxd)
        ]
    );
}

#[test]
fn fingerprints_must_be_lower_case() {
    let products = of(&[whole(&WHOLE.replace('3', "F"))]);
    let findings = check(&[&products]);
    assert_eq!(findings.len(), 2, "one for each metadata item: {findings:?}");
    assert!(findings.iter().all(|finding| {
        finding
            .problem
            .to_string()
            .contains("64 hexadecimal digits in lower case")
    }));
}

#[test]
fn one_fingerprint_in_two_products_is_found_by_nobody() {
    let one = product(r#""aliases":"a","#, "20240101", &whole(WHOLE));
    let two = product(r#""aliases":"b","#, "20240102", &whole(WHOLE));
    let products = document(&[("one", &one), ("two", &two)]);
    let text = r#"product "one", version "20240101": product "two", version "20240102" has the same fingerprint; clients find more than one match and take neither (all clients)"#;
    assert_only(&products, Severity::Broken, text);
}
