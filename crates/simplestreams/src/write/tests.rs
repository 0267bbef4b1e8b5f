use super::*;
use crate::{Parsed, Value};

/// A document with every key of the format and an unknown one at each level.
const FULL: &str = r#"{
    "content_id": "c", "datatype": "image-downloads", "format": "products:1.0", "license": "l", "updated": "u",
    "products": {"p": {
        "aliases": "a,b", "arch": "amd64", "os": "o", "release": "r", "release_codename": "rc", "release_title": "rt",
        "supported": true, "support_eol": "2030-01-01", "version": "1", "variant": "v", "requirements": {"x": "y"},
        "lxd_requirements": {"x": "y"}, "versions": {"20240101": {"items": {"i": {
            "ftype": "squashfs", "path": "f.x", "sha256": "s", "size": 1, "combined_sha256": "1",
            "combined_rootxz_sha256": "2", "combined_squashfs_sha256": "3", "combined_disk-kvm-img_sha256": "4",
            "combined_uefi1-img_sha256": "5", "combined_disk1-img_sha256": "6", "combined_type": "container",
            "delta_base": "d", "md5": "m", "unknown": 1.5
        }}, "label": "l", "pubname": "p", "unknown": [null, {"z": 1, "a": 2}]}},
        "unknown": -1
    }},
    "unknown": 18446744073709551615
}"#;
const FULL_INDEX: &str = r#"{"index": {"e": {"datatype": "image-downloads", "path": "p", "updated": "u",
    "products": ["p"], "format": "f", "unknown": {}}}, "updated": "u", "format": "index:1.0", "unknown": "x"}"#;

fn read_back(value: &Products, layout: Layout) -> Products {
    let text = value.to_json(layout).unwrap();
    let Parsed { document, deviations } = Products::parse(text.as_bytes()).unwrap();
    assert_eq!(deviations, []);
    document
}

#[test]
fn every_key_and_its_value_survive() {
    let products = Products::parse(FULL.as_bytes()).unwrap();
    assert_eq!(products.deviations, []);
    let written = products.document.to_json(Layout::Compact).unwrap();
    assert_eq!(written, FULL.split_whitespace().collect::<String>());
    for layout in [Layout::Compact, Layout::Pretty] {
        assert_eq!(read_back(&products.document, layout), products.document);
    }
    let index = Index::parse(FULL_INDEX.as_bytes()).unwrap();
    let written = index.document.to_json(Layout::Compact).unwrap();
    assert_eq!(written, FULL_INDEX.split_whitespace().collect::<String>());
}

#[test]
fn the_lists_of_keys_are_complete() {
    let products = Products::parse(FULL.as_bytes()).unwrap().document;
    let keys = |value: &dyn Fn() -> String| {
        let value: Value = serde_json::from_str(&value()).unwrap();
        let Value::Object(object) = value else {
            panic!("{value:?}")
        };
        let keys = object.into_iter().map(|(key, _)| key);
        keys.filter(|key| key != "unknown").collect::<Vec<_>>()
    };
    let product = &products.products["p"];
    let version = &product.versions["20240101"];
    assert_eq!(keys(&|| json(&products, Layout::Compact)), Products::KEYS);
    assert_eq!(keys(&|| json(product, Layout::Compact)), Product::KEYS);
    assert_eq!(keys(&|| json(version, Layout::Compact)), Version::KEYS);
    assert_eq!(keys(&|| json(&version.items["i"], Layout::Compact)), Item::KEYS);
    let index = Index::parse(FULL_INDEX.as_bytes()).unwrap().document;
    assert_eq!(keys(&|| json(&index, Layout::Compact)), Index::KEYS);
    assert_eq!(keys(&|| json(&index.index["e"], Layout::Compact)), Source::KEYS);
}

#[test]
fn what_clients_would_misread_is_not_written() {
    let full = Products::parse(FULL.as_bytes()).unwrap().document;
    let error = |change: &dyn Fn(&mut Product)| {
        let mut products = full.clone();
        change(&mut products.products["p"]);
        products.to_json(Layout::Compact).unwrap_err().to_string()
    };
    let comma = error(&|product| product.aliases = vec!["a,b".to_owned()]);
    assert_eq!(
        comma,
        r#"product "p", key "aliases": "a,b" cannot be an alias: commas separate aliases"#
    );
    let empty = error(&|product| product.aliases = vec![String::new()]);
    assert!(empty.starts_with(r#"product "p", key "aliases": "" cannot"#), "{empty}");
    let size = error(&|product| product.versions[0].items[0].size = Some(1 << 63));
    let place = r#"product "p", version "20240101", item "i", key "size": "#;
    assert_eq!(
        size,
        format!("{place}9223372036854775808 is more than clients can read")
    );
    let twice = error(&|product| {
        product.other.insert("Arch".to_owned(), Value::Null);
    });
    assert_eq!(twice, r#"product "p", key "Arch": this key has a field of its own"#);
}
