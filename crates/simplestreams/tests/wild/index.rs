//! Indexes, and the files that they name.

use simplestreams::{Index, Severity, check_index};

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
