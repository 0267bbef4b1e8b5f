//! A simplestreams document, read as a list of products and as an index.
//!
//! The result is an error, or a document that can be written. What is written is read back as the same document without
//! deviations, and contains every value of an input that had none. In the view of each family of clients, an image is found
//! under each name that it owns.

use serde_json::Value;
use simplestreams::{Family, Index, Layout, Parsed, Products, View, check, check_index};

pub fn holds(data: &[u8]) {
    if let Ok(index) = Index::parse(data) {
        for layout in [Layout::Compact, Layout::Pretty] {
            let text = index.document.to_json(layout).expect("what was read can be written");
            let again = Index::parse(text.as_bytes()).expect("what was written can be read");
            assert_eq!(again, Parsed::from(index.document.clone()));
            is_complete(data, &text, index.deviations.is_empty());
        }
        check_index(&index);
    }
    if let Ok(products) = Products::parse(data) {
        for layout in [Layout::Compact, Layout::Pretty] {
            let text = products.document.to_json(layout).expect("what was read can be written");
            let again = Products::parse(text.as_bytes()).expect("what was written can be read");
            assert_eq!(again, Parsed::from(products.document.clone()));
            is_complete(data, &text, products.deviations.is_empty());
        }
        check(&[&products]);
        for family in Family::ALL {
            names_lead_to_their_owners(&View::of(family, &[&products]));
        }
    }
}

fn is_complete(read: &[u8], written: &str, is_regular: bool) {
    let read: Value = serde_json::from_slice(read).expect("it was parsed");
    let text = written;
    let written: Value = serde_json::from_str(written).expect("it is JSON");
    assert!(
        !is_regular || contains(&written, &read),
        "{text} lacks something of {read}"
    );
}

/// Returns whether all of `part` is in `whole`. Clients read `null` as nothing, so it can be anything.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (_, Value::Null) => true,
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| value.is_null() || whole.get(key).is_some_and(|whole| contains(whole, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

fn names_lead_to_their_owners(view: &View) {
    for image in &view.images {
        for alias in &image.aliases {
            let found = view.resolve(&alias.name, Some(image.kind), image.architecture);
            assert!(
                found.is_some_and(|found| std::ptr::eq(found, image)),
                "{:?} is {found:?}, not {image:?}",
                alias.name
            );
        }
    }
}
