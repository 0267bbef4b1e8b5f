//! A filter of the list of images.
//!
//! Whether it is valid and which images it selects must agree with Incus's own `filter.Parse` and `filter.Match`,
//! reimplemented here step by step for images in plain JSON.

use std::sync::LazyLock;

use incus_gate::public::filter::Filter;
use incus_gate::public::image::Image;
use regex::Regex;
use regex::bytes::RegexBuilder;
use serde_json::{Value, json};

static IMAGES: LazyLock<Vec<(Value, Image)>> = LazyLock::new(|| {
    let images = [
        json!({
            "public": true, "cached": false, "auto_update": true, "architecture": "x86_64", "fingerprint": "b2e6",
            "size": 878_640, "type": "container", "project": "default", "filename": "a b.tar.xz",
            "properties": {"os": "Alpine", "release": "3.20", "image.kind": "x y", "": "z"},
        }),
        json!({
            "public": false, "cached": true, "auto_update": false, "architecture": "aarch64", "fingerprint": "00ff",
            "size": -1, "type": "virtual-machine", "project": "default", "filename": "", "properties": {"os": "ÄÖÜ"},
        }),
    ];
    images
        .into_iter()
        .map(|image| (image.clone(), serde_json::from_value(image).expect("an image")))
        .collect()
});

static NO_FLAGS_OF_GO: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\(\?[a-zA-Z-]*[ux]").expect("a pattern"));

pub fn holds(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let filter = Filter::parse(text);
    let clauses = clauses(text);
    assert_eq!(filter.is_ok(), clauses.is_some(), "{filter:?}");
    let (Ok(filter), Some(clauses)) = (filter, clauses) else {
        return;
    };
    assert_eq!(filter.is_empty(), clauses.is_empty());
    for (json, image) in &*IMAGES {
        let mut matched = true;
        for clause in &clauses {
            let holds = holds_for(clause, json) != clause.negated;
            matched = if clause.or { matched || holds } else { matched && holds };
        }
        // Only the automaton can tell which patterns exceed its size limit.
        if let Ok(matches) = filter.matcher().matches(image) {
            assert_eq!(matches, matched, "{clauses:?} for {json}");
        }
    }
}

#[derive(Debug)]
struct Clause {
    or: bool,
    negated: bool,
    field: String,
    value: String,
}

fn clauses(text: &str) -> Option<Vec<Clause>> {
    if text.len() > 1024 {
        return None;
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    let mut clauses = Vec::new();
    let mut index = 0;
    let mut or = false;
    while index < parts.len() {
        let not = parts[index].eq_ignore_ascii_case("not");
        index += usize::from(not);
        let field = (*parts.get(index)?).to_owned();
        let operator = *parts.get(index + 1)?;
        index += 2;
        let mut value = (*parts.get(index)?).to_owned();
        if value.starts_with('"') {
            value.remove(0);
            loop {
                index += 1;
                value = value + " " + parts.get(index)?;
                if value.ends_with('"') {
                    value.pop();
                    break;
                }
            }
        }
        index += 1;
        if !["eq", "ne"].contains(&operator) || clauses.len() == 8 || !takes(&field, &value) {
            return None;
        }
        let negated = not ^ (operator == "ne");
        clauses.push(Clause {
            or,
            negated,
            field,
            value,
        });
        if let Some(logical) = parts.get(index) {
            or = match *logical {
                "and" => false,
                "or" => true,
                _ => return None,
            };
            index += 1;
            parts.get(index)?;
        }
    }
    Some(clauses)
}

/// Returns whether the field exists and can have this value.
fn takes(field: &str, value: &str) -> bool {
    match field {
        "auto_update" | "cached" | "public" => boolean(value).is_some(),
        "size" => value.parse::<i64>().is_ok(),
        "architecture" | "filename" | "fingerprint" | "project" | "type" => true,
        _ => field.starts_with("properties."),
    }
}

/// Parses a boolean like Go's `strconv.ParseBool`.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn holds_for(Clause { field, value, .. }: &Clause, image: &Value) -> bool {
    let found = match field.strip_prefix("properties.") {
        Some(key) => image["properties"].get(key).unwrap_or(&Value::Null),
        None => &image[field.as_str()],
    };
    match found {
        Value::Bool(found) => boolean(value) == Some(*found),
        Value::Number(found) => value.parse().ok() == found.as_i64(),
        found => {
            let text = found.as_str().unwrap_or_default();
            let is_anchored = value.contains('^') || value.contains('$');
            let pattern = if is_anchored {
                value.clone()
            } else {
                format!("^{value}$")
            };
            let pattern = RegexBuilder::new(&pattern)
                .case_insensitive(true)
                // Go's character classes are ASCII, and it has no flags `u` and `x`.
                .unicode(!value.contains('[') && !value.contains('\\'))
                .size_limit(1 << 22)
                .build()
                .ok()
                .filter(|_| !NO_FLAGS_OF_GO.is_match(value));
            pattern.map_or_else(
                || text.to_lowercase() == value.to_lowercase(),
                |pattern| pattern.is_match(text.as_bytes()),
            )
        }
    }
}
