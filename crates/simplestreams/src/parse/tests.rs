use super::*;
use crate::Object;

fn product_with(field: &str) -> Result<Parsed<Products>, ParseError> {
    Products::parse(format!(r#"{{"products":{{"p":{{{field}}}}}}}"#).as_bytes())
}

fn item_with(field: &str) -> Result<Parsed<Products>, ParseError> {
    product_with(&format!(r#""versions":{{"20240101":{{"items":{{"i":{{{field}}}}}}}}}"#))
}

/// The product, and the only deviation as text.
fn deviating(parsed: Result<Parsed<Products>, ParseError>) -> (Product, String, Families) {
    let Parsed { document, deviations } = parsed.unwrap();
    let [deviation] = &deviations[..] else {
        panic!("{deviations:?}")
    };
    let text = format!("{}: {}", deviation.place, deviation.problem);
    (document.products["p"].clone(), text, deviation.stops)
}

#[test]
fn wrong_types_are_understood_and_recorded() {
    let (product, text, stops) = deviating(product_with(r#""aliases":["a","b/c"]"#));
    assert_eq!(product.aliases, ["a", "b/c"]);
    assert_eq!(
        text,
        r#"product "p", key "aliases": a list instead of a string with commas"#
    );
    assert_eq!(stops, Families::ALL);

    let (product, text, _) = deviating(item_with(r#""size":"672""#));
    assert_eq!(product.versions[0].items[0].size, Some(672));
    let place = r#"product "p", version "20240101", item "i", key "size": "#;
    assert_eq!(text, format!(r#"{place}the string "672" instead of a number of bytes"#));

    let (product, _, _) = deviating(item_with(r#""size":672.0"#));
    assert_eq!(product.versions[0].items[0].size, Some(672));

    let (product, text, stops) = deviating(product_with(r#""requirements":{"secureboot":false}"#));
    assert_eq!(product.requirements.unwrap()["secureboot"], "false");
    assert_eq!(
        text,
        r#"product "p", key "requirements.secureboot": a boolean instead of a string"#
    );
    assert!(!stops.contains(Family::Lxd5), "it does not read that key");
    assert!(stops.contains(Family::Incus6) && stops.contains(Family::Lxd));

    let (_, _, stops) = deviating(product_with(r#""lxd_requirements":{"secureboot":false}"#));
    assert!(stops.contains(Family::Lxd5) && !stops.contains(Family::Incus6));
    let (_, _, stops) = deviating(item_with(r#""combined_type":1"#));
    assert_eq!(stops, Families::from(Family::Incus7));

    let (product, _, _) = deviating(product_with(r#""release":12.04"#));
    assert_eq!(product.release, "12.04");
    let (product, _, _) = deviating(product_with(r#""supported":"true""#));
    assert_eq!(product.supported, Some(true));
}

#[test]
fn keys_are_found_whatever_their_case_and_null_is_nothing() {
    let (product, text, stops) = deviating(product_with(r#""Arch":"amd64""#));
    assert_eq!(product.architecture, "amd64");
    assert_eq!(product.other, Object::new());
    assert_eq!(text, r#"product "p", key "Arch": clients read it as "arch""#);
    assert_eq!(stops, Families::NONE);

    let parsed = product_with(r#""arch":"amd64","aliases":null,"variant":null,"requirements":null,"versions":null"#);
    let parsed = parsed.unwrap();
    assert_eq!(parsed.deviations, []);
    let expected = Product {
        architecture: "amd64".to_owned(),
        ..Product::default()
    };
    assert_eq!(parsed.document.products["p"], expected);
    assert_eq!(
        Products::parse(br#"{"products":{"p":null}}"#)
            .unwrap()
            .document
            .products["p"],
        Product::default()
    );
}

#[test]
fn errors_name_the_place() {
    let error = |parsed: Result<Parsed<Products>, ParseError>| parsed.unwrap_err().to_string();
    let place = r#"product "p", version "20240101", item "i", key "size": "#;
    assert_eq!(
        error(item_with(r#""size":{}"#)),
        format!("{place}an object instead of a number of bytes")
    );
    for size in ["-1", "1.5", "1e300", "9223372036854775808", r#""0x10""#, "true"] {
        let message = error(item_with(&format!(r#""size":{size}"#)));
        assert!(message.starts_with(place), "{message}");
    }
    assert_eq!(
        error(product_with(r#""os":["x"]"#)),
        r#"product "p", key "os": a list instead of a string"#
    );
    assert_eq!(
        error(product_with(r#""versions":[]"#)),
        r#"product "p", key "versions": a list instead of an object"#
    );
    assert_eq!(error(Products::parse(b"[]")), "document: a list instead of an object");
    let twice = error(product_with(r#""os":"a","os":"b""#));
    assert!(
        twice.starts_with(r#"the key "os" stands twice in one object at line 1 column "#),
        "{twice}"
    );
    assert_eq!(
        error(Products::parse(b"")),
        "EOF while parsing a value at line 1 column 0"
    );
    let index = Index::parse(br#"{"index":{"e":{"products":"p"}}}"#)
        .unwrap_err()
        .to_string();
    assert_eq!(
        index,
        r#"index entry "e", key "products": the string "p" instead of a list"#
    );
}

#[test]
fn spaces_and_empty_names_in_aliases_are_kept() {
    let aliases = |text: &str| {
        product_with(&format!(r#""aliases":"{text}""#))
            .unwrap()
            .document
            .products["p"]
            .aliases
            .clone()
    };
    assert_eq!(aliases("a, b"), ["a", " b"]);
    assert_eq!(aliases("a,,b,"), ["a", "", "b", ""]);
    assert!(aliases("").is_empty());
}
