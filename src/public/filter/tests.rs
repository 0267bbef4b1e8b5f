use std::time::{Duration, Instant};

use serde_json::json;

use super::parse::MAX_LENGTH;
use super::*;
use crate::public::image::Image;

fn image() -> Image {
    serde_json::from_value(json!({
        "properties": {"os": "Alpine", "release": "3.20", "image.kind": "x"},
        "public": true, "cached": false, "architecture": "x86_64", "fingerprint": "b2e6",
        "size": 878_640, "type": "container", "project": "default",
    }))
    .expect("valid image")
}

#[test]
fn clauses_are_evaluated_left_to_right() {
    let matches = [
        "",
        "public eq true",
        "public ne false",
        "not public eq false",
        "NOT public ne true",
        "size eq 878640",
        "type eq CONTAINER",
        "architecture eq x86_64|aarch64",
        "properties.os eq alp.*",
        "properties.os eq ^a",
        "properties.release eq 3..0",
        "cached eq true or public eq true",
        "public eq true or cached eq true and cached eq false",
    ];
    let differs = [
        "public eq false",
        "not public eq true",
        "size ne 878640",
        "architecture eq x86",
        "architecture eq x86_64,aarch64",
        "properties.rel eq 3.20",
        "properties.os eq lpin",
        "properties.release eq 3.2",
        "properties.nope eq x",
        "fingerprint eq B2",
        "cached eq true and public eq true",
        "cached eq true or public eq true and type eq virtual-machine",
    ];
    let holds = |text: &str| {
        Filter::parse(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .matcher()
            .matches(&image())
            .expect("small pattern")
    };
    for text in matches {
        assert!(holds(text), "{text}");
    }
    for text in differs {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn filters_that_incus_rejects_are_rejected() {
    let error = |text: &str| Filter::parse(text).expect_err(text).to_string();
    assert_eq!(error("x"), "Invalid filter: clause has no operator");
    assert_eq!(error("x eq"), "Invalid filter: clause has no value");
    assert_eq!(error("not"), "Invalid filter: incomplete not clause");
    assert_eq!(error("type eq \"x"), "Invalid filter: unterminated quote");
    assert_eq!(
        error("public eq true xor cached eq true"),
        "Invalid filter: invalid clause composition"
    );
    assert_eq!(
        error("public eq true and"),
        "Invalid filter: unterminated compound clause"
    );
    assert_eq!(
        error(&format!("type eq {}", "x".repeat(1024))),
        "Invalid filter: longer than 1024 bytes"
    );
    assert_eq!(
        error(&"type eq x or ".repeat(8)),
        "Invalid filter: unterminated compound clause"
    );
    assert_eq!(
        error(&(("type eq x or ".repeat(8)) + "type eq x")),
        "Invalid filter: more than 8 clauses"
    );
    assert_eq!(error("type gt x"), "Unsupported operation");
    assert_eq!(
        error("size eq x"),
        "Failed to parse value: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
}

#[test]
fn filters_on_hidden_fields_are_rejected() {
    for field in [
        "update_source.server",
        "last_used_at",
        "profiles",
        "aliases.name",
        "Public",
        "properties",
        "nope",
    ] {
        assert!(
            matches!(Filter::parse(&format!("{field} eq x")), Err(FilterError::Field(_))),
            "{field}"
        );
    }
}

#[test]
fn no_pattern_takes_long_to_evaluate() {
    // Each of these would fold the case of all Unicode characters many times.
    for hostile in [
        r"\pL",
        r"[\D]",
        r"\p{Any}",
        r"[!-\x{10ffff}]",
        "[!-\u{10ffff}]",
        "(?u)[\\D]",
        "(?x)(?u)[\\W]",
        "(?-i:(?isu:[\\S]))",
        ".",
        "\u{fc}.",
        "[a-z]",
    ] {
        let pattern = hostile.repeat((MAX_LENGTH - 8) / hostile.len());
        let begun = Instant::now();
        let filter = Filter::parse(&format!("type eq {pattern}")).expect("valid filter");
        assert_ne!(filter.matcher().matches(&image()), Ok(true), "{hostile}");
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{hostile}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn patterns_match_unicode_but_classes_match_ascii() {
    let mut image = image();
    image.properties.insert("os".to_owned(), "Münster".to_owned());
    for (pattern, matches) in [
        ("m.nster", true),
        ("MÜNSTER", true),
        ("(münster|berlin)", true),
        ("(?:münster|berlin)", true),
        (r".*nster\b", true),
        ("m.*[a-z]r", true),
        (r"m\wnster", false),
        ("m[a-zü]nster", false),
    ] {
        let filter = Filter::parse(&format!("properties.os eq {pattern}")).expect("valid filter");
        assert_eq!(filter.matcher().matches(&image), Ok(matches), "{pattern}");
    }
}

#[test]
fn patterns_without_a_small_automaton_are_rejected() {
    let texts: Vec<_> = (0..200_u64)
        .map(|n| {
            let mut image = image();
            let digits = [n, n + 1, n + 2, n + 3].map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            image.fingerprint = digits.concat();
            image
        })
        .collect();
    let evaluate = |pattern: &str| {
        let filter = Filter::parse(&format!("fingerprint eq {pattern}")).expect("valid filter");
        let mut matcher = filter.matcher();
        texts.iter().try_for_each(|image| matcher.matches(image).map(drop))
    };
    for hostile in [
        "((a{100}){100}){100}",
        ".*(.?[0-7]?[8-f]?){25}[0-7].{15}0dz",
        ".*[0-7].{40}z",
    ] {
        assert_eq!(evaluate(hostile), Err(TooComplex), "{hostile}");
    }
    let names = (0..25)
        .map(|n| format!("distribution{n}"))
        .collect::<Vec<_>>()
        .join("|");
    for usual in [
        "[0-9a-f]{64}",
        ".*(debian|ubuntu).*cloud.*",
        "b2e6.*",
        r"\d+\.\d+(-.*)?",
        &names,
    ] {
        assert_eq!(evaluate(usual), Ok(()), "{usual}");
    }
}
