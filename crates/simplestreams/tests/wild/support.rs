//! Documents made of small pieces, and what is found in them.

use simplestreams::{Families, Family, Finding, Parsed, Products, Severity, View, check};

pub(crate) const META: &str = "1111111111111111111111111111111111111111111111111111111111111111";
pub(crate) const ROOT: &str = "2222222222222222222222222222222222222222222222222222222222222222";
pub(crate) const WHOLE: &str = "3333333333333333333333333333333333333333333333333333333333333333";
pub(crate) const OTHER: &str = "4444444444444444444444444444444444444444444444444444444444444444";
pub(crate) const INCUS: Families = Families::of(&[Family::Incus6, Family::Incus7]);
pub(crate) const LXD: Families = Families::of(&[Family::Lxd5, Family::LxdTransition, Family::LxdDebian13, Family::Lxd]);

pub(crate) fn metadata(ftype: &str, combined: &str) -> String {
    item(ftype, "images/m.tar.xz", META, combined)
}

pub(crate) fn root(ftype: &str) -> String {
    item(ftype, &format!("images/r.{ftype}"), ROOT, "")
}

pub(crate) fn item(ftype: &str, path: &str, sha256: &str, more: &str) -> String {
    format!(r#""{ftype}":{{"ftype":"{ftype}","path":"{path}","sha256":"{sha256}","size":7{more}}}"#)
}

pub(crate) fn combined(name: &str, hash: &str) -> String {
    format!(r#","combined_{name}":"{hash}""#)
}

/// A squashfs image for Incus and LXD.
pub(crate) fn whole(fingerprint: &str) -> String {
    let combined = combined("squashfs_sha256", fingerprint);
    [
        metadata("incus.tar.xz", &combined),
        metadata("lxd.tar.xz", &combined),
        root("squashfs"),
    ]
    .join(",")
}

/// The same with a root of its own.
pub(crate) fn another(fingerprint: &str) -> String {
    whole(fingerprint).replace("/r.", "/s.").replace(ROOT, &"7".repeat(64))
}

pub(crate) fn product(fields: &str, version: &str, items: &str) -> String {
    format!(r#"{{"arch":"amd64","os":"O","release":"r",{fields}"versions":{{"{version}":{{"items":{{{items}}}}}}}}}"#)
}

pub(crate) fn document(products: &[(&str, &str)]) -> Parsed<Products> {
    let products: Vec<_> = products
        .iter()
        .map(|(key, product)| format!(r#""{key}":{product}"#))
        .collect();
    parse(&format!(r#"{{"products":{{{}}}}}"#, products.join(",")))
}

pub(crate) fn parse(json: &str) -> Parsed<Products> {
    Products::parse(json.as_bytes()).unwrap()
}

/// One image with these fields of the product.
pub(crate) fn with(fields: &str) -> Parsed<Products> {
    document(&[("p", &product(fields, "20240101_1200", &whole(WHOLE)))])
}

/// One version with these items.
pub(crate) fn of(items: &[String]) -> Parsed<Products> {
    document(&[("p", &product(r#""aliases":"a","#, "20240101_1200", &items.join(",")))])
}

/// The families that see the image with this fingerprint.
pub(crate) fn seen(products: &Parsed<Products>, fingerprint: &str) -> Families {
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
pub(crate) fn only(products: &Parsed<Products>) -> Finding {
    let findings = check(&[products]);
    let [finding] = &findings[..] else {
        panic!("{findings:#?}")
    };
    finding.clone()
}

#[track_caller]
pub(crate) fn assert_only(products: &Parsed<Products>, severity: Severity, text: &str) {
    let finding = only(products);
    assert_eq!(finding.to_string(), text);
    assert_eq!(finding.problem.severity(), severity, "{text}");
}
