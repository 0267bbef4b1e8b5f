//! Keys and values of products.

use simplestreams::{Architecture, Families, Family, Finding, Layout, Severity, View, check};

use super::support::{INCUS, LXD, OTHER, WHOLE, assert_only, document, only, parse, product, seen, whole, with};

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
fn what_others_wrote_stays_where_it_was() {
    let json = r#"{"content_id":"c","datatype":"image-downloads","format":"products:1.0","updated":"yesterday","products":{"z":{"aliases":"","arch":"amd64","os":"","release":"","release_title":"","versions":{},"zeta":1,"alpha":{"y":[],"x":null}},"a":{"aliases":"","arch":"amd64","os":"","release":"","release_title":"","versions":{}}},"creator":"someone","_comment":"kept"}"#;
    assert_eq!(parse(json).document.to_json(Layout::Compact).unwrap(), json);
}
