//! Which image owns an alias.

use simplestreams::{Architecture, Family, Severity, View, check};

use super::support::{OTHER, WHOLE, another, assert_only, document, product, whole};

#[test]
fn the_first_release_owns_an_alias_and_not_the_newest_date() {
    let at = |release: &str, version: &str, items: &str| {
        product(r#""aliases":"a","#, version, items).replace(r#""release":"r""#, &format!(r#""release":"{release}""#))
    };
    let products = document(&[
        ("new", &at("b", "20250101", &whole(WHOLE))),
        ("old", &at("a", "20200101", &another(OTHER))),
    ]);
    for family in Family::ALL {
        let view = View::of(family, &[&products]);
        assert_eq!(
            view.resolve("a", None, Architecture::X86_64).unwrap().fingerprint,
            OTHER,
            "{family}"
        );
        assert!(view.images[1].aliases.is_empty());
    }
    let text = r#"product "new", version "20250101": the alias "a" belongs to product "old", version "20200101", which clients sort before this one (all clients)"#;
    assert_only(&products, Severity::Doubtful, text);
}

#[test]
fn the_latest_version_key_owns_an_alias_whatever_the_clocks_said() {
    // Two creators in different time zones: the second made its version later, and its clock showed less.
    let versions = format!(
        r#""20240102_0030":{{"items":{{{}}}}},"20240101_2345":{{"items":{{{}}}}}"#,
        whole(WHOLE),
        another(OTHER)
    );
    let products = document(&[(
        "p",
        &format!(r#"{{"aliases":"a","arch":"amd64","versions":{{{versions}}}}}"#),
    )]);
    let view = View::of(Family::Lxd, &[&products]);
    assert_eq!(
        view.resolve("a", None, Architecture::X86_64).unwrap().fingerprint,
        WHOLE
    );
    assert_eq!(check(&[&products]), []);
}

#[test]
fn chance_decides_where_clients_have_no_order() {
    let variant = |variant: &str, hash: &str| product(&format!(r#""aliases":"a",{variant}"#), "20240101", &whole(hash));
    let undecided = |one: &str, two: &str| {
        let products = document(&[("one", one), ("two", two)]);
        check(&[&products]).iter().any(|finding| {
            finding
                .problem
                .to_string()
                .ends_with("by chance: clients have no order for the two")
        })
    };
    assert!(
        undecided(&variant("", WHOLE), &variant("", OTHER)),
        "the same in all by which clients sort"
    );
    assert!(
        undecided(&variant("", WHOLE), &variant(r#""variant":"v","#, OTHER)),
        "with and without a variant"
    );
    assert!(!undecided(
        &variant(r#""variant":"u","#, WHOLE),
        &variant(r#""variant":"v","#, OTHER)
    ));
}

#[test]
fn native_images_come_before_those_that_the_kernel_also_runs() {
    let on = |arch: &str, hash: &str| product(r#""aliases":"a","#, "20240101", &whole(hash)).replace("amd64", arch);
    let products = document(&[("one", &on("arm64", WHOLE)), ("two", &on("i686", OTHER))]);
    let view = View::of(Family::Incus6, &[&products]);
    let found = |native| view.resolve("a", None, native).unwrap().fingerprint.as_str();
    assert_eq!(found(Architecture::Aarch64), WHOLE);
    assert_eq!(found(Architecture::X86_64), OTHER);
    assert_eq!(
        view.resolve("a/arm64", None, Architecture::X86_64).unwrap().fingerprint,
        WHOLE
    );
    let listed = |position: usize| {
        view.images[position]
            .listed_aliases(Architecture::X86_64)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (listed(0), listed(1)),
        (vec!["a/arm64"], vec!["a/i686"]),
        "foreign ones show their full name only"
    );
}
