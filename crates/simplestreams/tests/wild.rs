//! What image servers in the wild do, and what each family of clients makes of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use simplestreams::{
    Architecture, Families, Family, Finding, Index, Kind, Layout, Parsed, Products, Severity, View, check, check_index,
};

const META: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const ROOT: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const WHOLE: &str = "3333333333333333333333333333333333333333333333333333333333333333";
const OTHER: &str = "4444444444444444444444444444444444444444444444444444444444444444";
const INCUS: Families = Families::of(&[Family::Incus6, Family::Incus7]);
const LXD: Families = Families::of(&[Family::Lxd5, Family::LxdTransition, Family::LxdDebian13, Family::Lxd]);

fn metadata(ftype: &str, combined: &str) -> String {
    item(ftype, "images/m.tar.xz", META, combined)
}

fn root(ftype: &str) -> String {
    item(ftype, &format!("images/r.{ftype}"), ROOT, "")
}

fn item(ftype: &str, path: &str, sha256: &str, more: &str) -> String {
    format!(r#""{ftype}":{{"ftype":"{ftype}","path":"{path}","sha256":"{sha256}","size":7{more}}}"#)
}

fn combined(name: &str, hash: &str) -> String {
    format!(r#","combined_{name}":"{hash}""#)
}

/// A squashfs image for Incus and LXD.
fn whole(fingerprint: &str) -> String {
    let combined = combined("squashfs_sha256", fingerprint);
    [
        metadata("incus.tar.xz", &combined),
        metadata("lxd.tar.xz", &combined),
        root("squashfs"),
    ]
    .join(",")
}

/// The same with a root of its own.
fn another(fingerprint: &str) -> String {
    whole(fingerprint).replace("/r.", "/s.").replace(ROOT, &"7".repeat(64))
}

fn product(fields: &str, version: &str, items: &str) -> String {
    format!(r#"{{"arch":"amd64","os":"O","release":"r",{fields}"versions":{{"{version}":{{"items":{{{items}}}}}}}}}"#)
}

fn document(products: &[(&str, &str)]) -> Parsed<Products> {
    let products: Vec<_> = products
        .iter()
        .map(|(key, product)| format!(r#""{key}":{product}"#))
        .collect();
    parse(&format!(r#"{{"products":{{{}}}}}"#, products.join(",")))
}

fn parse(json: &str) -> Parsed<Products> {
    Products::parse(json.as_bytes()).unwrap()
}

/// One image with these fields of the product.
fn with(fields: &str) -> Parsed<Products> {
    document(&[("p", &product(fields, "20240101_1200", &whole(WHOLE)))])
}

/// One version with these items.
fn of(items: &[String]) -> Parsed<Products> {
    document(&[("p", &product(r#""aliases":"a","#, "20240101_1200", &items.join(",")))])
}

/// The families that see the image with this fingerprint.
fn seen(products: &Parsed<Products>, fingerprint: &str) -> Families {
    let sees = |family: &Family| {
        View::of(*family, &[products])
            .images
            .iter()
            .any(|image| image.fingerprint == fingerprint)
    };
    Family::ALL
        .into_iter()
        .filter(sees)
        .fold(Families::NONE, |all, family| all | family.into())
}

#[track_caller]
fn only(products: &Parsed<Products>) -> Finding {
    let findings = check(&[products]);
    let [finding] = &findings[..] else {
        panic!("{findings:#?}")
    };
    finding.clone()
}

#[track_caller]
fn assert_only(products: &Parsed<Products>, severity: Severity, text: &str) {
    let finding = only(products);
    assert_eq!(finding.to_string(), text);
    assert_eq!(finding.problem.severity(), severity, "{text}");
}

#[test]
fn a_good_tree_has_no_findings() {
    let products = with(r#""aliases":"a","#);
    assert_eq!(check(&[&products]), []);
    assert_eq!(seen(&products, WHOLE), Families::ALL);
}

#[test]
fn an_index_without_products_lists_nothing() {
    let index = |products: &str| {
        let json = format!(
            r#"{{"index":{{"e":{{"datatype":"image-downloads","path":"streams/v1/images.json"{products}}}}}}}"#
        );
        Index::parse(json.as_bytes()).unwrap()
    };
    for products in ["", r#","products":[]"#, r#","products":null"#] {
        let index = index(products);
        assert_eq!(index.document.read_by_clients().count(), 0);
        let findings = check_index(&index);
        let text = r#"index entry "e", key "products": the entry names no products; clients skip it (all clients)"#;
        assert_eq!(findings.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }
    let index = index(r#","products":["x"]"#);
    assert_eq!(check_index(&index), []);
    assert_eq!(
        index
            .document
            .read_by_clients()
            .map(|(name, _)| name)
            .collect::<Vec<_>>(),
        ["e"]
    );
}

#[test]
fn an_index_of_anything_else_lists_nothing() {
    let index = br#"{"index":{"e":{"datatype":"image-ids","path":"a.json","products":["x"]}}}"#;
    let index = Index::parse(index).unwrap();
    assert_eq!(index.document.read_by_clients().count(), 0);
    let text = r#"index entry "e", key "datatype": the datatype is "image-ids" and not "image-downloads"; clients skip the entry (all clients)"#;
    assert_eq!(check_index(&index)[0].to_string(), text);
}

#[test]
fn two_files_with_one_name_collide_in_the_clients_caches() {
    let index = |first: &str, second: &str| {
        let entry = |path: &str| format!(r#"{{"datatype":"image-downloads","path":"{path}","products":["x"]}}"#);
        let json = format!(r#"{{"index":{{"a":{},"b":{}}}}}"#, entry(first), entry(second));
        check_index(&Index::parse(json.as_bytes()).unwrap())
    };
    let findings = index("one/images.json", "two/images.json");
    let text = r#"index entry "b", key "path": clients cache the file under the same name as that of index entry "a", and read one for both (all clients)"#;
    assert_eq!(findings.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    assert_eq!(findings[0].problem.severity(), Severity::Broken);
    assert_eq!(index("one.json", "two.json"), []);
    assert_eq!(
        index("streams/v2/index.json", "two.json").len(),
        1,
        "the index itself is cached too"
    );
}

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
fn version_keys_that_begin_with_no_date_are_hidden() {
    let at = |key: &str| document(&[("p", &product("", key, &whole(WHOLE)))]);
    for key in [
        "v2.6.0",
        "1.0.0",
        "2024_01_01",
        "20240231",
        "20241301_0000",
        "2024010",
        "",
        "２０２４０１０１",
    ] {
        let products = at(key);
        assert_eq!(seen(&products, WHOLE), Families::NONE, "{key}");
        let text = "the key of a version must begin with a date, YYYYMMDD; clients skip the version (all clients)";
        assert_only(
            &products,
            Severity::Hidden,
            &format!("product \"p\", version {key:?}: {text}"),
        );
    }
    for key in ["20180716_12:00", "20240229", "20240101-rc.1", "202401011200"] {
        assert_eq!(seen(&at(key), WHOLE), Families::ALL, "{key}");
        assert_eq!(check(&[&at(key)]), [], "{key}");
    }
}

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

#[test]
fn a_container_and_a_machine_of_one_minute_can_have_metadata_each() {
    let second = |ftype: &str, hashes: &str| {
        let item = item(ftype, "images/n.tar.xz", OTHER, hashes);
        item.replacen(ftype, &format!("second {ftype}"), 1)
    };
    let fingerprint = "5".repeat(64);
    let (squashfs, disk) = (
        combined("squashfs_sha256", WHOLE),
        combined("disk-kvm-img_sha256", &fingerprint),
    );
    let disk_root = item("disk-kvm.img", "images/d.qcow2", &"6".repeat(64), "");
    let apart = |incus: (&str, &str), lxd: (&str, &str)| {
        of(&[
            metadata("incus.tar.xz", incus.0),
            metadata("lxd.tar.xz", lxd.0),
            second("incus.tar.xz", incus.1),
            second("lxd.tar.xz", lxd.1),
            root("squashfs"),
            disk_root.clone(),
        ])
    };
    let products = apart((&squashfs, &disk), (&squashfs, &disk));
    for family in [Family::Incus6, Family::Incus7, Family::Lxd5, Family::Lxd] {
        let view = View::of(family, &[&products]);
        let images: Vec<_> = view
            .images
            .iter()
            .map(|image| (image.kind, image.files[0].path.as_str()))
            .collect();
        let expected = [
            (Kind::Container, "images/m.tar.xz"),
            (Kind::VirtualMachine, "images/n.tar.xz"),
        ];
        assert_eq!(images, expected, "{family}");
        assert_eq!(
            view.resolve("a", Some(Kind::VirtualMachine), Architecture::X86_64),
            Some(&view.images[1])
        );
    }
    // These take one metadata item of a version, whatever it is.
    let one = Families::of(&[Family::LxdTransition, Family::LxdDebian13]);
    assert!(
        one.iter()
            .all(|family| View::of(family, &[&products]).images.len() == 1)
    );
    let chance = |finding: &Finding| finding.problem.to_string().contains("by chance, and skip the other");
    let findings = check(&[&products]).into_iter().filter(chance);
    assert_eq!(
        findings.fold(Families::NONE, |all, finding| all | finding.families),
        one
    );
    assert!(!check(&[&with("")]).iter().any(chance), "both items are one file");

    // The machine's hash on the container's metadata: a second fingerprint for a disk that has one.
    let wrong = apart((&format!("{squashfs}{disk}"), &disk), (&squashfs, &disk));
    let twice = check(&[&wrong]);
    let has_twice = |finding: &&Finding| finding.problem.to_string().contains("has the same fingerprint");
    let families: Vec<_> = twice.iter().filter(has_twice).map(|finding| finding.families).collect();
    assert_eq!(families, [INCUS], "{twice:?}");
}

#[test]
fn a_unified_machine_is_a_container_to_most() {
    let kind = r#","combined_type":"virtual-machine""#;
    let products = of(&[
        item("incus_combined.tar.gz", "images/u.tar.gz", WHOLE, kind),
        item("lxd_combined.tar.gz", "images/u.tar.gz", WHOLE, kind),
    ]);
    for family in Family::ALL {
        let expected = if family == Family::Incus7 {
            Kind::VirtualMachine
        } else {
            Kind::Container
        };
        let view = View::of(family, &[&products]);
        assert_eq!(
            (view.images[0].kind, &*view.images[0].fingerprint),
            (expected, WHOLE),
            "{family}"
        );
    }
    let findings = check(&[&products]);
    let all = findings
        .iter()
        .fold(Families::NONE, |all, finding| all | finding.families);
    assert_eq!(all, LXD | Family::Incus6.into(), "{findings:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.problem.severity() == Severity::Broken)
    );
}

#[test]
fn one_wrong_type_hides_the_whole_remote() {
    for (fields, stopped) in [
        (r#""aliases":["a"],"#, Families::ALL),
        (r#""release_title":7,"#, Families::ALL),
        (r#""requirements":{"secureboot":false},"#, INCUS | LxdAfter5.into()),
        (r#""lxd_requirements":{"secureboot":false},"#, LXD),
    ] {
        let bad = product(fields, "20240101", &whole(OTHER));
        let good = product("", "20240101", &whole(WHOLE));
        let products = document(&[("bad", &bad), ("good", &good)]);
        let seen = seen(&products, WHOLE);
        assert!(
            Family::ALL
                .iter()
                .all(|&family| seen.contains(family) != stopped.contains(family)),
            "{fields}: {seen:?}"
        );
        let undecodable = |finding: &&Finding| finding.problem.to_string().contains("hides every image of the remote");
        let findings = check(&[&products]);
        let finding = findings.iter().find(undecodable).unwrap();
        assert_eq!(
            (finding.families, finding.problem.severity()),
            (stopped, Severity::Broken)
        );
        // Writing repairs it.
        let written = products.document.to_json(Layout::Compact).unwrap();
        assert_eq!(parse(&written).deviations, []);
    }
    let size = parse(&format!(
        r#"{{"products":{{"p":{}}}}}"#,
        product("", "20240101", &whole(WHOLE)).replace(":7", r#":"7""#)
    ));
    assert_eq!(seen(&size, WHOLE), Families::NONE);
}

struct LxdAfter5;

impl From<LxdAfter5> for Families {
    fn from(_: LxdAfter5) -> Self {
        Self::of(&[Family::LxdTransition, Family::LxdDebian13, Family::Lxd])
    }
}

#[test]
fn spaces_are_part_of_aliases() {
    let products = with(r#""aliases":"a, b","#);
    let view = View::of(Family::Incus6, &[&products]);
    let listed: Vec<_> = view.images[0].listed_aliases(Architecture::X86_64).collect();
    assert_eq!(listed, ["a", "a/amd64", " b", " b/amd64"]);
    assert_eq!(view.resolve("b", None, Architecture::X86_64), None);
    let text = r#"product "p", key "aliases": the alias is " b", with its spaces: clients split at commas and trim nothing (all clients)"#;
    assert_only(&products, Severity::Doubtful, text);
}

#[test]
fn misspelt_and_unread_requirements_are_reported() {
    let both = r#""requirements":{"secure_boot":"false"},"lxd_requirements":{"secure_boot":"false"},"#;
    assert_only(
        &with(both),
        Severity::Doubtful,
        r#"product "p": no client knows the requirement "secure_boot" (all clients)"#,
    );

    let unread = "these clients do not read the requirement \"secureboot\" where it stands; write it in both keys";
    let one = with(r#""requirements":{"secureboot":"false"},"#);
    assert_only(
        &one,
        Severity::Doubtful,
        &format!("product \"p\": {unread} ({})", Family::Lxd5),
    );
    // An empty one hides the other from every LXD.
    let empty = with(r#""requirements":{"secureboot":"false"},"lxd_requirements":{},"#);
    assert_only(&empty, Severity::Doubtful, &format!("product \"p\": {unread} ({LXD})"));
    let property = |family| {
        View::of(family, &[&empty]).images[0]
            .properties
            .get("requirements.secureboot")
            .cloned()
    };
    assert_eq!(
        (property(Family::Incus6).as_deref(), property(Family::Lxd)),
        (Some("false"), None)
    );
}

#[test]
fn metadata_for_one_program_hides_the_image_from_the_other() {
    let hash = combined("squashfs_sha256", WHOLE);
    for (ftype, expected) in [
        ("incus.tar.xz", INCUS | Family::LxdTransition.into()),
        ("lxd.tar.xz", LXD),
    ] {
        let products = of(&[metadata(ftype, &hash), root("squashfs")]);
        assert_eq!(seen(&products, WHOLE), expected, "{ftype}");
        let finding = only(&products);
        assert_eq!(finding.problem.severity(), Severity::Hidden);
        assert_eq!(
            finding.problem.to_string(),
            "no item with metadata for these clients; they skip the version"
        );
        assert!(
            Family::ALL
                .iter()
                .all(|&family| finding.families.contains(family) != expected.contains(family))
        );
    }
    let rootless = of(&[metadata("incus.tar.xz", &hash), metadata("lxd.tar.xz", &hash)]);
    let texts: Vec<_> = check(&[&rootless])
        .iter()
        .map(|finding| finding.problem.to_string())
        .collect();
    assert_eq!(
        texts,
        ["metadata, but no root file system or disk beside it; clients skip it"; 2]
    );
}

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

#[test]
fn unknown_architectures_are_skipped_by_those_that_do_not_know_them() {
    let on = |arch: &str| {
        parse(&format!(
            r#"{{"products":{{"p":{}}}}}"#,
            product("", "20240101", &whole(WHOLE)).replace("amd64", arch)
        ))
    };
    assert_eq!(seen(&on("z80"), WHOLE), Families::NONE);
    let later = Families::of(&[Family::LxdDebian13, Family::Lxd]);
    assert_eq!(seen(&on("loong64"), WHOLE), INCUS | later);
    assert_eq!(seen(&on("x86_64_v3"), WHOLE), Family::Incus7.into());
    let finding = only(&on("mipsle"));
    assert_eq!(finding.families, Family::Lxd5.into());
    assert_eq!(
        finding.to_string(),
        format!(
            r#"product "p", key "arch": unknown architecture "mipsle"; clients skip the product ({})"#,
            Family::Lxd5
        )
    );
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

#[test]
fn deltas_need_their_base_and_disks_have_none() {
    let base = whole(WHOLE);
    let delta = |ftype: &str, base: &str| {
        item(
            ftype,
            "images/d.vcdiff",
            &"9".repeat(64),
            &format!(r#","delta_base":"{base}""#),
        )
    };
    let newer = |delta: &str| format!("{},{delta}", another(OTHER));
    let with = |delta: &str| {
        let versions = format!(
            r#""20240101":{{"items":{{{base}}}}},"20240102":{{"items":{{{}}}}}"#,
            newer(delta)
        );
        document(&[("p", &format!(r#"{{"arch":"amd64","versions":{{{versions}}}}}"#))])
    };
    let good = with(&delta("squashfs.vcdiff", "20240101"));
    assert_eq!(check(&[&good]), []);
    for family in Family::ALL {
        let view = View::of(family, &[&good]);
        assert_eq!(
            view.images[0].files[2].role,
            simplestreams::Role::Delta(WHOLE.to_owned()),
            "{family}"
        );
    }
    let gone = only(&with(&delta("squashfs.vcdiff", "20231231")));
    assert_eq!(
        (gone.families, gone.problem.severity()),
        (Families::ALL, Severity::Doubtful)
    );

    // A disk beside a container: most clients take the container's fingerprint for the base.
    let disk = |hash: &str, digit: &str, more: &str| {
        let hashes = format!(
            "{}{}",
            combined("squashfs_sha256", hash),
            combined("disk-kvm-img_sha256", &digit.repeat(64))
        );
        let root = item("disk-kvm.img", &format!("images/{digit}.qcow2"), &digit.repeat(64), "");
        format!(
            "{},{},{root}{more}",
            metadata("incus.tar.xz", &hashes),
            metadata("lxd.tar.xz", &hashes)
        )
    };
    let versions = format!(
        r#""20240101":{{"items":{{{}}}}},"20240102":{{"items":{{{}}}}}"#,
        disk(WHOLE, "5", ""),
        disk(OTHER, "6", &format!(",{}", delta("disk-kvm.img.vcdiff", "20240101")))
    );
    let finding = only(&document(&[(
        "p",
        &format!(r#"{{"arch":"amd64","versions":{{{versions}}}}}"#),
    )]));
    let one = Families::of(&[Family::LxdTransition, Family::LxdDebian13]);
    assert_eq!(finding.families, INCUS | one);
    assert_eq!(finding.problem.severity(), Severity::Broken);
}

#[test]
fn what_others_wrote_stays_where_it_was() {
    let json = r#"{"content_id":"c","datatype":"image-downloads","format":"products:1.0","updated":"yesterday","products":{"z":{"aliases":"","arch":"amd64","os":"","release":"","release_title":"","versions":{},"zeta":1,"alpha":{"y":[],"x":null}},"a":{"aliases":"","arch":"amd64","os":"","release":"","release_title":"","versions":{}}},"creator":"someone","_comment":"kept"}"#;
    assert_eq!(parse(json).document.to_json(Layout::Compact).unwrap(), json);
}
