//! Products that exist in the wild, and their like.

/// Returns each product as JSON, with a name.
pub(super) fn wild_products() -> Vec<(&'static str, String)> {
    let product = |fields: &str, version: &str, items: &str| {
        format!(
            r#"{{"arch":"amd64","os":"O","release":"r","release_title":"R",{fields}"versions":{{"{version}":{{"items":{{{items}}}}}}}}}"#
        )
    };
    let hash = |digits: &str| digits.repeat(32);
    let metadata = |ftype: &str, combined: &str| {
        let sha256 = hash("a1");
        format!(r#""{ftype}":{{"ftype":"{ftype}","path":"images/m.tar.xz","sha256":"{sha256}","size":672,{combined}}}"#)
    };
    let root = |ftype: &str| {
        let sha256 = hash("b2");
        format!(r#""root {ftype}":{{"ftype":"{ftype}","path":"images/r.{ftype}","sha256":"{sha256}","size":9}}"#)
    };
    let combined = |name: &str, digits: &str| format!(r#""combined_{name}":"{}""#, hash(digits));
    let squashfs = combined("squashfs_sha256", "c3");
    let both = [
        metadata("incus.tar.xz", &squashfs),
        metadata("lxd.tar.xz", &squashfs),
        root("squashfs"),
    ]
    .join(",");
    let with = |fields: &str| product(fields, "20240101_1200", &both);
    let at = |version: &str| product(r#""aliases":"a","#, version, &both);
    let of = |items: &[String]| product(r#""aliases":"a","#, "20240101", &items.join(","));
    vec![
        ("plain", with(r#""aliases":"a,b/c","#)),
        ("semantic", at("v2.6.0")),
        ("short", at("1.0.0")),
        ("underscores", at("2024_01_01")),
        ("no-day", at("20240231")),
        ("colon", at("20180716_12:00")),
        ("long", at("20240101-and-more")),
        (
            "no-hash",
            of(&[metadata("incus.tar.xz", r#""md5":"x""#), root("squashfs")]),
        ),
        (
            "general-hash",
            of(&[metadata("incus.tar.xz", &combined("sha256", "c3")), root("squashfs")]),
        ),
        (
            "general-hash-tar",
            of(&[metadata("incus.tar.xz", &combined("sha256", "c3")), root("root.tar.xz")]),
        ),
        ("only-lxd", of(&[metadata("lxd.tar.xz", &squashfs), root("squashfs")])),
        (
            "only-incus",
            of(&[metadata("incus.tar.xz", &squashfs), root("squashfs")]),
        ),
        (
            "no-root",
            of(&[metadata("incus.tar.xz", &squashfs), metadata("lxd.tar.xz", &squashfs)]),
        ),
        (
            "no-path",
            of(&[
                metadata("incus.tar.xz", &squashfs).replace("images/m.tar.xz", ""),
                root("squashfs"),
            ]),
        ),
        (
            "two-kinds",
            of(&[
                metadata(
                    "incus.tar.xz",
                    &format!("{squashfs},{}", combined("disk-kvm-img_sha256", "d4")),
                ),
                root("squashfs"),
                root("disk-kvm.img"),
                root("disk1.img"),
            ]),
        ),
        (
            "two-metadata",
            of(&[
                metadata("incus.tar.xz", &squashfs),
                metadata("incus.tar.xz", &combined("disk-kvm-img_sha256", "d4")).replacen("incus.tar.xz", "second", 1),
                root("squashfs"),
                root("disk-kvm.img"),
            ]),
        ),
        (
            "unified",
            of(&[
                metadata("incus_combined.tar.gz", &squashfs),
                metadata("lxd_combined.tar.gz", &squashfs),
            ]),
        ),
        (
            "unified-disk",
            of(&[metadata(
                "incus_combined.tar.gz",
                r#""combined_type":"virtual-machine""#,
            )]),
        ),
        ("list-of-aliases", with(r#""aliases":["a"],"#)),
        ("spaces", with(r#""aliases":"a, b,,c","#)),
        ("size-as-text", of(&[both.replace("672", r#""672""#)])),
        ("size-as-float", of(&[both.replace("672", "672.0")])),
        ("boolean", with(r#""requirements":{"secureboot":false},"#)),
        ("boolean-lxd", with(r#""lxd_requirements":{"secureboot":false},"#)),
        ("misspelt", with(r#""requirements":{"secure_boot":"false"},"#)),
        (
            "requirements",
            with(r#""requirements":{"secureboot":"false"},"lxd_requirements":{"nesting":"true"},"#),
        ),
        ("null", with(r#""aliases":null,"variant":null,"support_eol":null,"#)),
        ("case", with(r#""Aliases":"a","VARIANT":"v","#)),
        (
            "other-architecture",
            with(r#""aliases":"a","#).replace("amd64", "arm64"),
        ),
        (
            "new-architecture",
            with(r#""aliases":"a","#).replace("amd64", "loong64"),
        ),
        ("no-architecture", with(r#""aliases":"a","#).replace("amd64", "z80")),
        ("absolute", with("").replace("images/r.", "https://example.org/r.")),
        ("rooted", with("").replace("images/r.", "/incus/r.")),
    ]
}
